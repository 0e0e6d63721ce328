//! Whether a run came out as its record says, as the text of `xp rerun --verify`.

use crate::report::number::{ABSENT, count_text};
use crate::run::repeat::Difference;

/// What was compared, the first difference, and what of the surroundings is another than then.
pub fn text(
    name: &str,
    n_compared: usize,
    difference: Option<&Difference>,
    same_tensors: bool,
    surroundings: &[(String, [Option<String>; 2])],
) -> String {
    let n_compared = count_text(n_compared as u64);
    let mut text = match (difference, same_tensors) {
        (None, true) => {
            return format!("the same as {name}: {n_compared} points and the trained tensors, to the bit\n");
        }
        (None, false) => format!("not the same as {name}: {n_compared} points are, the trained tensors are not\n"),
        (Some(difference), _) => {
            let value = |value: Option<f64>| value.map_or_else(|| ABSENT.to_owned(), |value| value.to_string());
            format!(
                "not the same as {name}: {} differs first at step {}, in epoch {}\n  recorded {}\n  now      {}\n",
                difference.key,
                difference.step,
                difference.epoch,
                value(difference.recorded),
                value(difference.repeated),
            )
        }
    };
    for (name, [then, now]) in surroundings {
        let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
        text += &format!("  {name} was {}, and is {}\n", known(then), known(now));
    }
    if surroundings.is_empty() {
        text += "  nothing known of what it ran in is another than then\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::metric::{Measure, MetricKey, Split};

    #[test]
    fn the_first_step_that_differs_is_named() {
        let key = MetricKey::new(Split::Train, Measure::Loss);
        let difference = Difference { key, epoch: 2, step: 31, recorded: Some(0.5), repeated: Some(0.25) };
        let changed = [("vectors".to_owned(), [Some("512-bit".to_owned()), Some("256-bit".to_owned())])];
        insta::assert_snapshot!(text("calm-owl", 1200, Some(&difference), false, &changed), @r"
        not the same as calm-owl: train.loss differs first at step 31, in epoch 2
          recorded 0.5
          now      0.25
          vectors was 512-bit, and is 256-bit
        ");
        assert_eq!(
            text("calm-owl", 1200, None, true, &[]),
            "the same as calm-owl: 1,200 points and the trained tensors, to the bit\n"
        );
        assert!(text("calm-owl", 3, None, false, &[]).contains("the trained tensors are not"));
    }
}
