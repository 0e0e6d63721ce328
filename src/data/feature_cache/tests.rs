use super::*;
use crate::data::feature_cache::rows::Rows;
use crate::run::stop::StopFlag;

const N_VALUES: usize = 6;

fn cache(dir: &Path) -> FeatureCache {
    FeatureCache { dir: dir.to_owned(), budget_bytes: 1 << 30 }
}

fn facts(precision: Precision) -> Facts {
    Facts {
        format: FORMAT,
        backbone: "vgg_tiny".to_owned(),
        cut: "block1_pool".to_owned(),
        weights: "abc".to_owned(),
        preprocessing: Value::Null,
        images: Value::Null,
        views: None,
        precision,
        shape: [N_VALUES, 1, 1],
        kernel: "test".to_owned(),
    }
}

fn key(n: u8) -> [u8; 32] {
    *blake3::hash(&[n]).as_bytes()
}

fn row(n: u8) -> Vec<f32> {
    (0..N_VALUES).map(|i| f32::from(n) + i as f32 / 3.0).collect()
}

/// Adds rows, waiting for nobody.
fn add(rows: &mut Rows, numbers: std::ops::Range<u8>) {
    let mut writer = rows.writer(&StopFlag::default(), || panic!("nobody else writes")).unwrap();
    for n in numbers {
        writer.append(&key(n), n % 2 == 1, &row(n)).unwrap();
    }
    writer.finish().unwrap();
    rows.look_again().unwrap();
}

fn read(rows: &Rows, n: u8) -> Result<Option<Vec<f32>>, CacheError> {
    let mut values = vec![f32::NAN; N_VALUES];
    match rows.find(&key(n)) {
        Some(place) => rows.read(place, &mut values).map(|()| Some(values)),
        None => Ok(None),
    }
}

fn shards(cache: &FeatureCache) -> Vec<PathBuf> {
    let files = folders(&cache.dir).unwrap().into_iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut shards: Vec<_> = files.map(|file| file.unwrap().path()).filter(|path| shard::is_shard(path)).collect();
    shards.sort();
    shards
}

#[test]
fn rows_come_back_in_another_process_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let mut rows = Rows::open(&cache, &facts(Precision::F32)).unwrap();
    assert_eq!(read(&rows, 0).unwrap(), None);
    add(&mut rows, 0..3);
    add(&mut rows, 3..5);
    drop(rows);
    let rows = Rows::open(&cache, &facts(Precision::F32)).unwrap();
    for n in 0..5 {
        assert_eq!(read(&rows, n).unwrap(), Some(row(n)));
        assert_eq!(rows.is_turned(rows.find(&key(n)).unwrap()), n % 2 == 1);
    }
    assert_eq!(read(&rows, 5).unwrap(), None);
    let [entry] = &cache.entries().unwrap()[..] else { panic!("one folder") };
    assert_eq!((entry.n_rows, entry.is_in_use, entry.facts.clone()), (5, true, Some(facts(Precision::F32))));
    assert!(!cache.remove(&entry.id).unwrap(), "it is in use");
    drop(rows);
    assert!(cache.remove(&entry.id).unwrap());
    assert_eq!(cache.entries().unwrap(), []);
}

#[test]
fn half_precision_rounds_to_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = Rows::open(&cache(dir.path()), &facts(Precision::F16)).unwrap();
    add(&mut rows, 7..8);
    let rounded: Vec<f32> = row(7).iter().map(|value| half::f16::from_f32(*value).to_f32()).collect();
    assert_eq!(read(&rows, 7).unwrap(), Some(rounded));
}

#[test]
fn other_facts_are_another_folder() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    add(&mut Rows::open(&cache, &facts(Precision::F32)).unwrap(), 0..1);
    let other = Facts { cut: "block2_pool".to_owned(), ..facts(Precision::F32) };
    assert_eq!(read(&Rows::open(&cache, &other).unwrap(), 0).unwrap(), None);
}

/// Wherever a byte of a shard is changed or missing, no row comes back that is not what was written.
#[test]
fn damage_is_found_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    add(&mut Rows::open(&cache, &facts(Precision::F32)).unwrap(), 0..3);
    let path = shards(&cache).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let damaged = (0..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    let cut = (0..whole.len()).map(|len| whole[..len].to_vec());
    for bytes in damaged.chain(cut) {
        fs::write(&path, &bytes).unwrap();
        let mut rows = Rows::open(&cache, &facts(Precision::F32)).unwrap();
        let mut n_lost = 0;
        for n in 0..3 {
            match read(&rows, n) {
                Ok(Some(values)) => assert_eq!(values, row(n)),
                Ok(None) | Err(CacheError::Damaged { .. }) => n_lost += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(n_lost > 0);
        if let Some(place) = rows.find(&key(0)) {
            rows.give_up(place);
        }
        assert_eq!(rows.damaged(), std::slice::from_ref(&path));
    }
}

#[test]
fn a_writer_removes_what_is_damaged_and_what_a_killed_one_left() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let mut rows = Rows::open(&cache, &facts(Precision::F32)).unwrap();
    add(&mut rows, 0..2);
    let path = shards(&cache).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let partial = path.with_file_name(format!("{}abc", shard::PARTIAL));
    fs::write(&partial, "half a sh").unwrap();
    let error = read(&rows, 0).unwrap_err().to_string();
    assert!(error.ends_with("a row is not what was written"), "{error}");
    rows.give_up(rows.find(&key(0)).unwrap());
    assert_eq!(read(&rows, 1).unwrap(), None, "a damaged shard is trusted in nothing");
    add(&mut rows, 0..2);
    assert!(!partial.exists());
    assert_eq!([read(&rows, 0).unwrap(), read(&rows, 1).unwrap()], [Some(row(0)), Some(row(1))]);
    assert!(rows.damaged().is_empty());
}

#[test]
fn one_writes_at_a_time_and_the_next_finds_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let mut first = Rows::open(&cache, &facts(Precision::F32)).unwrap();
    let mut writer = first.writer(&StopFlag::default(), || panic!("nobody else writes")).unwrap();
    writer.append(&key(1), true, &row(1)).unwrap();
    let (told, waits) = std::sync::mpsc::channel();
    let second = std::thread::spawn(move || {
        let mut rows = Rows::open(&cache, &facts(Precision::F32)).unwrap();
        let writer = rows.writer(&StopFlag::default(), || told.send(()).unwrap()).unwrap();
        let found = read(&rows, 1).unwrap();
        writer.finish().unwrap();
        found
    });
    waits.recv().unwrap();
    writer.finish().unwrap();
    assert_eq!(second.join().unwrap(), Some(row(1)));
}

#[test]
fn a_stop_ends_the_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path());
    let mut rows = Rows::open(&cache, &facts(Precision::F32)).unwrap();
    let _writer = rows.writer(&StopFlag::default(), || ()).unwrap();
    let mut other = Rows::open(&cache, &facts(Precision::F32)).unwrap();
    let stop = StopFlag::default();
    let error = other.writer(&stop, || stop.raise()).unwrap_err();
    assert!(matches!(error, CacheError::Stopped));
}

#[test]
fn what_was_used_longest_ago_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut cache = cache(dir.path());
    let named = |cut: &str| Facts { cut: cut.to_owned(), ..facts(Precision::F32) };
    for (seconds, cut) in [(30, "b"), (10, "a"), (20, "c")] {
        add(&mut Rows::open(&cache, &named(cut)).unwrap(), 0..5);
        let path = cache.dir.join(named(cut).id()).join(IN_USE);
        let used = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        File::options().write(true).open(path).unwrap().set_modified(used).unwrap();
    }
    let cuts = |cache: &FeatureCache| {
        let entries = cache.entries().unwrap();
        entries.into_iter().map(|entry| entry.facts.unwrap().cut).collect::<Vec<_>>()
    };
    assert_eq!(cuts(&cache), ["a", "c", "b"]);
    let n_bytes: u64 = cache.entries().unwrap().iter().map(|entry| entry.n_bytes).sum();
    cache.budget_bytes = n_bytes;
    cache.make_room(&named("new"), 1).unwrap();
    assert_eq!(cuts(&cache), ["c", "b"]);
    let in_use = Rows::open(&cache, &named("c")).unwrap();
    // The one in use is now the one used last, and stays even where it is all that could go.
    let error = cache.make_room(&named("new"), n_bytes).unwrap_err();
    assert!(matches!(error, CacheError::NoRoom { .. }));
    assert_eq!(cuts(&cache), ["c"]);
    drop(in_use);
    let error = cache.make_room(&named("c"), n_bytes).unwrap_err().to_string();
    assert!(error.contains("within `cache.budget`, which is"), "{error}");
    assert_eq!(cuts(&cache), ["c"], "what a run needs itself is not deleted for it");
}
