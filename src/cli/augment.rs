//! `xp augment`: a contact sheet of what a spec's augmentation makes of its training images.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::cli::output::{self, Overwrite};
use crate::cli::progress;
use crate::data::augment::Transform;
use crate::data::images::Images;
use crate::data::listing::{ListedImage, Listing, OtherFiles};
use crate::data::sheet::{self, BORDER, Sheet, SheetTooLarge, spread};
use crate::report::table::{Alignment, Column, table};
use crate::run::event::Phase;
use crate::run::metric::Split;
use crate::run::stop::StopFlag;
use crate::settings::Resources;
use crate::spec::LoadedSpec;
use crate::spec::schema::Spec;
use crate::spec::schema::data::OnBadImage;
use crate::spec::short_forms::ImageSize;
use crate::train::TrainError;
use crate::train::plan::{Plan, plan};
use crate::train::splits::{of_split, read_settings};

/// Draw a sheet of training images as each epoch will see them.
///
/// Every row is a training image: first as it is read, then as it is changed in one epoch after the other. What was
/// drawn for it is printed. With `steps_per_epoch`, passes over the images take the place of epochs.
#[derive(Debug, Args)]
pub(crate) struct AugmentArgs {
    /// The spec file.
    spec: PathBuf,
    /// The PNG to write; a file of that name is replaced.
    #[arg(short, long, value_name = "FILE.png")]
    output: PathBuf,
    /// Replace a value: --set augment.zoom=0.3. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Rows: how many images, spread over the classes.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    images: u32,
    /// Columns: how many epochs.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    views: u32,
    /// The first epoch.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    epoch: u32,
    /// Print what was drawn as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn augment(args: &AugmentArgs) -> Result<(), Failure> {
    check_output(&args.output)?;
    let plan = plan(&LoadedSpec::read(&args.spec, &args.sets)?)?;
    let size = image_size(&plan.spec)?;
    let n_rows = args.images.min(u32::try_from(train(&plan).images.len()).unwrap_or(u32::MAX));
    sheet::size(size.height, size.width, n_rows, 1 + args.views).map_err(too_large)?;
    let rows = rows(args, &plan)?;
    let sheet = laid_out(args, &plan.spec, &rows)?;
    write(&args.output, &sheet)?;
    if args.json {
        output::print_json(&drawn_json(args, &sheet, &rows))
    } else {
        output::print(&drawn_text(args, &plan.spec, &sheet, &rows))
    }
}

fn image_size(spec: &Spec) -> Result<ImageSize, Failure> {
    spec.data.image_size.ok_or_else(|| Failure::Usage {
        what: "the spec's data are features, and only images can be shown".to_owned(),
        hint: "name the spec that made the features".to_owned(),
    })
}

fn too_large(error: SheetTooLarge) -> Failure {
    let hint = "show fewer with `--images` and `--views`, or smaller with `--set data.image_size=…`";
    Failure::Usage { what: error.to_string(), hint: hint.to_owned() }
}

/// Refuses what could not be written, before any work is done.
fn check_output(path: &Path) -> Result<(), Failure> {
    let folder = output::folder_of(path);
    if !folder.is_dir() {
        let what = format!("there is no folder {} to write {} into", folder.display(), path.display());
        return Err(Failure::NotThere { what, hint: "make the folder first, or name another".to_owned() });
    }
    let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    if !is_png || path.is_dir() {
        let what = format!("{} is no name for a sheet", path.display());
        return Err(Failure::Usage { what, hint: "`-o` takes a file whose name ends in .png".to_owned() });
    }
    Ok(())
}

/// One training image and what is drawn for it.
struct Row {
    /// Its index in the split, which decides what is drawn.
    index: u32,
    class: String,
    path: PathBuf,
    pixels: Vec<u8>,
    /// With the pass over the images, which is the epoch where the spec has no `steps_per_epoch`.
    views: Vec<(u32, Transform)>,
}

fn rows(args: &AugmentArgs, plan: &Plan) -> Result<Vec<Row>, Failure> {
    let (spec, listing, n) = (&plan.spec, train(plan), args.images as usize);
    // An image's index counts the usable ones. Where bad ones are skipped, all must be read to know which those are.
    let (images, chosen) = match spec.data.on_bad_image {
        OnBadImage::Error => {
            let labels: Vec<u32> = listing.images.iter().map(|image| image.label).collect();
            let chosen = spread(&labels, n);
            (read(plan, &only(listing, &chosen))?, (0..).zip(chosen).collect::<Vec<_>>())
        }
        OnBadImage::Skip => {
            let images = read(plan, listing)?;
            let chosen = spread(images.labels(), n);
            (images, chosen.into_iter().map(|index| (index as usize, index)).collect())
        }
    };
    let row = |(place, index): (usize, u32)| {
        let mut pixels = vec![0; images.image_bytes()];
        images.pixels_into(place, &mut pixels)?;
        let class = images.classes()[images.labels()[place] as usize].clone();
        let views = (args.epoch..args.epoch + args.views)
            .map(|pass| (pass, Transform::draw(&spec.augment, spec.seed, pass, u64::from(index))));
        Ok(Row { index, class, path: images.name(place).into_owned(), pixels, views: views.collect() })
    };
    chosen.into_iter().map(row).collect()
}

fn train(plan: &Plan) -> &Listing {
    of_split(&plan.listings, Split::Train).expect("a plan has training images")
}

fn read(plan: &Plan, listing: &Listing) -> Result<Images, Failure> {
    let split = Split::Train;
    let settings = read_settings(plan, &Resources::new(None));
    let bar = progress::bar(Phase::Index(split), listing.images.len() as u64);
    let progress = |n_done| bar.iter().for_each(|bar| bar.set_position(n_done));
    let read = Images::read(split, listing, &settings, &StopFlag::default(), &progress);
    bar.iter().for_each(ProgressBar::finish_and_clear);
    Ok(read.map_err(|source| TrainError::Data { split, source })?)
}

/// A listing with these of the images and with their classes alone, since a class without images is an error.
fn only(listing: &Listing, chosen: &[u32]) -> Listing {
    let images = || chosen.iter().map(|index| &listing.images[*index as usize]);
    let mut labels: Vec<u32> = images().map(|image| image.label).collect();
    labels.sort_unstable();
    labels.dedup();
    let label = |image: &ListedImage| labels.partition_point(|label| *label < image.label) as u32;
    Listing {
        origin: listing.origin.clone(),
        is_part: true,
        classes: labels.iter().map(|label| listing.classes[*label as usize].clone()).collect(),
        images: images().map(|image| ListedImage { location: image.location.clone(), label: label(image) }).collect(),
        others: OtherFiles::default(),
    }
}

fn laid_out(args: &AugmentArgs, spec: &Spec, rows: &[Row]) -> Result<Sheet, Failure> {
    let size = image_size(spec)?;
    let mut sheet = Sheet::new(size.height, size.width, rows.len() as u32, 1 + args.views).map_err(too_large)?;
    for (i, row) in (0..).zip(rows) {
        sheet.put(i, 0, &row.pixels);
        for (k, (_, transform)) in (1..).zip(&row.views) {
            let mut pixels = row.pixels.clone();
            transform.apply(&spec.augment, size.height, size.width, &mut pixels);
            sheet.put(i, k, &pixels);
        }
    }
    Ok(sheet)
}

/// Writes the file whole or not at all.
fn write(path: &Path, sheet: &Sheet) -> Result<(), Failure> {
    let written = sheet.png().and_then(|png| output::write_whole(path, &png, Overwrite::Always));
    written.map_err(|source| Failure::Io { what: format!("write {}", path.display()), source })
}

fn drawn_json(args: &AugmentArgs, sheet: &Sheet, rows: &[Row]) -> Value {
    let view = |(pass, transform): &(u32, Transform)| json!({ "pass": pass, "drawn": transform });
    let images = rows.iter().map(|row| {
        let views: Vec<Value> = row.views.iter().map(view).collect();
        json!({ "index": row.index, "class": row.class, "path": row.path, "views": views })
    });
    json!({
        "schema": 1,
        "sheet": { "path": args.output.display().to_string(), "height": sheet.height(), "width": sheet.width(), "border": BORDER },
        "images": images.collect::<Vec<_>>(),
    })
}

fn drawn_text(args: &AugmentArgs, spec: &Spec, sheet: &Sheet, rows: &[Row]) -> String {
    let width = output::width();
    let place = || (1..).take(rows.len()).map(|row: u32| row.to_string());
    let images = [
        Column::new("row", Alignment::Right, place()),
        Column::new("class", Alignment::Left, rows.iter().map(|row| row.class.clone())).shrinking_to(10),
        Column::new("image", Alignment::Left, rows.iter().map(|row| row.path.display().to_string())).shrinking_to(20),
    ];
    let drawn = if spec.augment.draws() {
        table(&views(spec, rows), width)
    } else {
        "`augment` asks for nothing: all columns are alike\n".to_owned()
    };
    format!(
        "{}\n{drawn}\ncolumn 1: as read; then {}; {} × {} pixels\n{}\n",
        table(&images, width),
        shown(args, spec),
        sheet.width(),
        sheet.height(),
        output::from_here(&args.output).display(),
    )
}

/// What a column of the sheet is, and many of them are.
fn words(spec: &Spec) -> (&'static str, &'static str) {
    if spec.steps_per_epoch.is_some() { ("pass", "passes") } else { ("epoch", "epochs") }
}

fn shown(args: &AugmentArgs, spec: &Spec) -> String {
    let ((one, many), first) = (words(spec), args.epoch);
    if args.views == 1 { format!("{one} {first}") } else { format!("{many} {first} to {}", first + args.views - 1) }
}

/// A line a view, with a column for every quantity that the spec asks for.
fn views(spec: &Spec, rows: &[Row]) -> Vec<Column> {
    let augment = &spec.augment;
    let all = || (1..).zip(rows).flat_map(|(place, row)| row.views.iter().map(move |view| (place, view)));
    let mut columns = vec![
        Column::new("row", Alignment::Right, all().map(|(place, _): (u32, _)| place.to_string())),
        Column::new(words(spec).0, Alignment::Right, all().map(|(_, (pass, _))| pass.to_string())),
    ];
    let mut add = |is_drawn: bool, header: &str, text: fn(&Transform) -> String| {
        if is_drawn {
            columns.push(Column::new(header, Alignment::Right, all().map(|(_, (_, transform))| text(transform))));
        }
    };
    add(augment.rotation_degrees > 0.0, "degrees", |drawn| format!("{:.1}", drawn.rotation_degrees));
    add(augment.width_shift_fraction > 0.0, "shift w", |drawn| format!("{:.3}", drawn.width_shift_fraction));
    add(augment.height_shift_fraction > 0.0, "shift h", |drawn| format!("{:.3}", drawn.height_shift_fraction));
    add(augment.shear_radians > 0.0, "shear", |drawn| format!("{:.3}", drawn.shear_radians));
    add(augment.zoom.is_some(), "zoom w", |drawn| format!("{:.3}", drawn.zoom_width));
    add(augment.zoom.is_some(), "zoom h", |drawn| format!("{:.3}", drawn.zoom_height));
    add(augment.brightness.is_some(), "bright", |drawn| format!("{:.3}", drawn.brightness));
    add(augment.horizontal_flip || augment.vertical_flip, "flip", |drawn| flips(drawn).to_owned());
    columns
}

fn flips(drawn: &Transform) -> &'static str {
    match (drawn.horizontal_flip, drawn.vertical_flip) {
        (true, true) => "h, v",
        (true, false) => "h",
        (false, true) => "v",
        (false, false) => "no",
    }
}
