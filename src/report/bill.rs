//! The bill of a training's frozen layers as text.

use crate::report::number::{bytes_text, count_text};
use crate::report::table::wrapped;
use crate::run::bill::{Bill, Keeping, SweepBill};

/// Multiply-adds as people say them: `6.6 G`.
fn multiply_adds(n: u64) -> String {
    match n as f64 {
        n if n >= 1e12 => format!("{:.1} T", n / 1e12),
        n if n >= 1e9 => format!("{:.2} G", n / 1e9),
        n if n >= 1e6 => format!("{:.0} M", n / 1e6),
        n => format!("{n:.0}"),
    }
}

/// One line for the beginning of a run; none where nothing is frozen.
pub fn line(bill: &Bill) -> Option<String> {
    if bill.frozen_multiply_adds == 0 {
        return None;
    }
    let share = format!(
        "{:.0} % of {} multiply-adds are frozen",
        bill.frozen_share() * 100.0,
        multiply_adds(bill.multiply_adds)
    );
    let n_kept = bill.splits.iter().filter(|split| !matches!(split.keeping, Keeping::EveryTime { .. })).count();
    let paid = match (n_kept, bill.disk_bytes()) {
        (0, _) => "paid in every epoch".to_owned(),
        (n, 0) if n == bill.splits.len() => "paid once, kept in memory".to_owned(),
        (n, n_bytes) if n == bill.splits.len() => format!("paid once, {} on disk", bytes_text(n_bytes)),
        _ => {
            let once = bill.splits.iter().filter(|split| !matches!(split.keeping, Keeping::EveryTime { .. }));
            let once = once.map(|split| split.split.to_string()).collect::<Vec<_>>().join(" and ");
            format!("paid once for {once}")
        }
    };
    Some(format!("{share}, {paid}"))
}

/// What a sweep's trials cost, and what is saved by running frozen layers once.
pub fn sweep_text(bill: &SweepBill, width: usize) -> String {
    let times = |work: u64| work as f64 / bill.shared.max(1) as f64;
    let text = format!(
        "{} multiply-adds with the frozen layers run once for all trials; {:.1} times as many with each trial running \
         them once, {:.1} times with every epoch",
        multiply_adds(bill.shared),
        times(bill.once_a_trial),
        times(bill.every_time),
    );
    wrapped(&text, 0, width) + "\n"
}

/// All of it; with images a second through the frozen layers, also the time that they take.
pub fn text(bill: &Bill, images_per_s: Option<f64>) -> String {
    if bill.frozen_multiply_adds == 0 {
        return format!(
            "{} multiply-adds an image, none of them in frozen layers\n",
            multiply_adds(bill.multiply_adds)
        );
    }
    let mut text = format!(
        "{} multiply-adds an image, {} of them in frozen layers ({:.1} %)\n",
        multiply_adds(bill.multiply_adds),
        multiply_adds(bill.frozen_multiply_adds),
        bill.frozen_share() * 100.0
    );
    text += &format!("what they give takes {} an image\n", bytes_text(bill.row_bytes));
    if let Some(speed) = images_per_s {
        text += &format!("{speed:.1} images a second go through them here\n");
    }
    for split in &bill.splits {
        let n_bytes = split.n_rows * bill.row_bytes;
        let views = match split.n_rows / split.n_images.max(1) {
            1 => String::new(),
            n => format!(" in {n} views"),
        };
        let how = match &split.keeping {
            Keeping::EveryTime { .. } => "computed in every epoch".to_owned(),
            Keeping::InMemory => format!("computed once in every run, {} in memory", bytes_text(n_bytes)),
            Keeping::OnDisk { into_memory: true } => {
                format!("computed once, {} on disk and in memory", bytes_text(n_bytes))
            }
            Keeping::OnDisk { into_memory: false } => format!("computed once, {} on disk", bytes_text(n_bytes)),
        };
        let n_at_once = match split.keeping {
            Keeping::EveryTime { .. } => split.n_images,
            _ => split.n_rows,
        };
        let time = images_per_s.map(|speed| format!(", {}", seconds(n_at_once as f64 / speed)));
        text += &format!(
            "{:5} {:>9} images{views}: {how}{}\n",
            split.split.to_string(),
            count_text(split.n_images),
            time.unwrap_or_default()
        );
        if let Keeping::EveryTime { reason: Some(reason) } = &split.keeping {
            text += &format!("      because {reason}\n");
        }
    }
    text
}

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::bill::SplitBill;
    use crate::run::metric::Split;

    fn bill(keeping: [Keeping; 2]) -> Bill {
        let [train, valid] = keeping;
        let split = |split, n_images, n_rows, keeping| SplitBill { split, n_images, n_rows, keeping };
        Bill {
            multiply_adds: 6_617_202_688,
            frozen_multiply_adds: 6_043_680_768,
            row_bytes: 165_888,
            splits: vec![split(Split::Train, 20_000, 160_000, train), split(Split::Valid, 5000, 5000, valid)],
        }
    }

    #[test]
    fn a_run_begins_with_one_line() {
        let line = |train, valid| line(&bill([train, valid])).unwrap();
        let every_time = || Keeping::EveryTime { reason: None };
        insta::assert_snapshot!(
            [
                line(Keeping::OnDisk { into_memory: false }, Keeping::OnDisk { into_memory: true }),
                line(Keeping::InMemory, Keeping::InMemory),
                line(every_time(), Keeping::OnDisk { into_memory: true }),
                line(every_time(), every_time()),
            ]
            .join("\n"),
            @r"
        91 % of 6.62 G multiply-adds are frozen, paid once, 25.5 GiB on disk
        91 % of 6.62 G multiply-adds are frozen, paid once, kept in memory
        91 % of 6.62 G multiply-adds are frozen, paid once for valid
        91 % of 6.62 G multiply-adds are frozen, paid in every epoch
        "
        );
        assert_eq!(super::line(&Bill { frozen_multiply_adds: 0, ..bill([every_time(), every_time()]) }), None);
    }

    #[test]
    fn the_whole_bill_says_what_is_paid_how_often() {
        let reason = Some("what they give takes 24.7 GiB, more than `cache.budget` of 18.6 GiB".to_owned());
        insta::assert_snapshot!(
            text(&bill([Keeping::EveryTime { reason }, Keeping::OnDisk { into_memory: false }]), Some(25.0)),
            @r"
        6.62 G multiply-adds an image, 6.04 G of them in frozen layers (91.3 %)
        what they give takes 162.0 KiB an image
        25.0 images a second go through them here
        train    20,000 images in 8 views: computed in every epoch, 13 min
              because what they give takes 24.7 GiB, more than `cache.budget` of 18.6 GiB
        valid     5,000 images: computed once, 791.0 MiB on disk, 3 min
        "
        );
    }
}
