//! The losses of a learning rate range test as a chart of text.

use crate::report::number::metric_text;

/// Lines of the chart; steps between are their mean.
const N_LINES: usize = 20;

/// Loss by rate, a bar a line, within `width` characters.
pub fn chart(steps: &[(f64, f64)], width: usize) -> String {
    let lines: Vec<(f64, f64)> = steps
        .chunks(steps.len().div_ceil(N_LINES).max(1))
        .map(|steps| {
            let mean = steps.iter().map(|(_, loss)| loss).sum::<f64>() / steps.len() as f64;
            (steps[0].0, mean)
        })
        .collect();
    let highest = lines.iter().map(|(_, loss)| *loss).fold(0.0, f64::max);
    let room = width.saturating_sub(20).clamp(10, 60);
    let line = |(rate, loss): &(f64, f64)| {
        let n = if highest > 0.0 { (loss / highest * room as f64).round() as usize } else { 0 };
        let text = format!("{:>8}  {:<7} {}", format!("{rate:.1e}"), metric_text("loss", Some(*loss)), "█".repeat(n));
        format!("{}\n", text.trim_end())
    };
    "    rate  loss\n".to_owned() + &lines.iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_loss_and_lines_are_few() {
        let text = chart(&[(1e-5, 2.0), (1e-4, 1.0), (1e-3, 0.0)], 40);
        insta::assert_snapshot!(text, @r"
            rate  loss
          1.0e-5  2.000   ████████████████████
          1.0e-4  1.000   ██████████
          1.0e-3  0.000
        ");
        let many: Vec<(f64, f64)> = (1..=100).map(|i| (f64::from(i), 1.0)).collect();
        assert_eq!(chart(&many, 80).lines().count(), 21);
    }
}
