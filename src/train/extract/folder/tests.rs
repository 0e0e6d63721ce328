use super::*;

const SHAPE: FeatureShape = FeatureShape { height: 1, width: 2, channels: 3 };

fn rows(path: &Path) -> Rows {
    let header = Header::of("<f4", &shape_of(10, SHAPE));
    Rows::open(Split::Train, path.join("train.npy.part"), &header, SHAPE.n_bytes(), 2).unwrap()
}

fn row(i: u64) -> Vec<f32> {
    (0..6).map(|j| (i * 6 + j) as f32).collect()
}

#[test]
fn rows_go_on_behind_the_last_that_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("train.npy.part");
    let start = Header::of("<f4", &shape_of(10, SHAPE)).bytes().len();
    let write = |from: u64, to| {
        let mut rows = rows(folder.path());
        assert_eq!(rows.n_done(), from);
        (from..to).for_each(|i| rows.append(&row(i)).unwrap());
    };
    write(0, 7);
    // Cut in the middle of its fifth row: four are whole, two batches.
    let file = OpenOptions::new().write(true).open(&part).unwrap();
    file.set_len(start as u64 + 4 * 24 + 5).unwrap();
    write(4, 8);
    // A hole in the third row, as a machine that loses power may leave it.
    let mut bytes = fs::read(&part).unwrap();
    bytes[start + 2 * 24..start + 3 * 24].fill(0);
    fs::write(&part, bytes).unwrap();
    write(2, 10);
    let rows = rows(folder.path());
    assert_eq!(rows.n_done(), 10);
    rows.finish(&folder.path().join("train.npy")).unwrap();
    let values: Vec<u8> = (0..10).flat_map(row).flat_map(f32::to_le_bytes).collect();
    let expected = [Header::of("<f4", &[10, 1, 2, 3]).bytes(), values].concat();
    assert_eq!(fs::read(folder.path().join("train.npy")).unwrap(), expected);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_header_of_another_length_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = rows(folder.path());
    rows.append(&row(0)).unwrap();
    rows.append(&row(1)).unwrap();
    let header = Header::of("<f4", &shape_of(11, SHAPE));
    let path = folder.path().join("train.npy.part");
    assert_eq!(Rows::open(Split::Train, path, &header, SHAPE.n_bytes(), 2).unwrap().n_done(), 0);
}

#[test]
fn someone_elses_folder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    for overwrite in [Overwrite::Never, Overwrite::Always] {
        assert!(matches!(Folder::claim(folder.path(), overwrite), Err(FolderError::Foreign { .. })));
    }
    let new = folder.path().join("new");
    let claimed = Folder::claim(&new, Overwrite::Never).unwrap();
    #[cfg(unix)]
    assert!(matches!(Folder::claim(&new, Overwrite::Never), Err(FolderError::InUse { .. })));
    drop(claimed);
    assert!(Folder::claim(&new, Overwrite::Never).is_ok());
}
