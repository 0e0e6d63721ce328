//! Aligned text: tables without rules, lists of pairs, and cuts and wraps that keep lines within the terminal.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

/// Spaces between columns.
pub(crate) const GAP: usize = 2;

const ONLY_HEADER_RULED: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));

/// One column of a table: its header and its cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    header: String,
    cells: Vec<String>,
    alignment: Alignment,
    /// Narrowest the column may become; its text is cut in the middle to get there.
    least: usize,
}

/// Where a cell's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alignment {
    Left,
    Right,
}

impl Column {
    /// A column that is never cut.
    pub(crate) fn new(header: &str, alignment: Alignment, cells: impl IntoIterator<Item = String>) -> Self {
        let cells: Vec<String> = cells.into_iter().map(|cell| printable(&cell)).collect();
        Self { header: printable(header), cells, alignment, least: usize::MAX }
    }

    /// Lets the column shrink to this many characters.
    pub(crate) fn shrinking_to(mut self, least: usize) -> Self {
        self.least = least;
        self
    }

    /// Characters of the longest cell.
    pub(crate) fn width(&self) -> usize {
        self.cells.iter().chain([&self.header]).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    fn least(&self) -> usize {
        self.least.min(self.width())
    }
}

/// The narrowest these columns can be printed.
pub(crate) fn least_width(columns: &[Column]) -> usize {
    columns.iter().map(Column::least).sum::<usize>() + GAP * columns.len().saturating_sub(1)
}

/// Lays columns out beside each other, shrinking the widest of those that may.
pub(crate) fn table(columns: &[Column], width: usize) -> String {
    let widths = shrunk_widths(columns, width);
    let mut table = Table::new();
    table.force_no_tty().load_style(ONLY_HEADER_RULED).set_content_arrangement(ContentArrangement::Disabled);
    if columns.iter().any(|column| !column.header.is_empty()) {
        table.set_header(columns.iter().zip(&widths).map(|(column, width)| middle_cut(&column.header, *width)));
    }
    let n_rows = columns.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    for row in 0..n_rows {
        table.add_row(columns.iter().zip(&widths).map(|(column, width)| match column.cells.get(row) {
            Some(cell) => middle_cut(cell, *width),
            None => String::new(),
        }));
    }
    for (index, (laid_out, column)) in table.column_iter_mut().zip(columns).enumerate() {
        let gap = if index + 1 < columns.len() { GAP } else { 0 };
        laid_out.set_padding((0, gap as u16));
        laid_out.set_cell_alignment(match column.alignment {
            Alignment::Left => CellAlignment::Left,
            Alignment::Right => CellAlignment::Right,
        });
    }
    lines_text(table.lines())
}

/// Tables below each other, each as many columns as fit after the first, which every one repeats.
pub(crate) fn stacked_tables(columns: Vec<Column>, width: usize) -> String {
    let mut columns = columns.into_iter();
    let Some(first) = columns.next() else { return String::new() };
    let mut blocks = vec![vec![first.clone()]];
    let mut taken = first.least();
    for column in columns {
        let needed = GAP + column.least();
        match blocks.last_mut() {
            Some(block) if block.len() == 1 || taken + needed <= width => {
                block.push(column);
                taken += needed;
            }
            _ => {
                blocks.push(vec![first.clone(), column]);
                taken = first.least() + needed;
            }
        }
    }
    blocks.into_iter().map(|block| table(&block, width)).collect::<Vec<_>>().join("\n")
}

/// A name and its value a line, indented by two; long values go on below themselves.
pub(crate) fn pairs(rows: &[(String, String)], width: usize) -> String {
    let names = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(width / 2);
    let indent = 2 + names + GAP;
    let mut text = String::new();
    for (name, value) in rows {
        let name = middle_cut(&printable(name), names);
        let value = wrapped(value, indent, width);
        text.push_str(&format!("  {name:names$}  {}\n", value.trim_start()));
    }
    text
}

/// Text broken at spaces into lines of at most `width`, all indented; no line break at the end.
///
/// A word longer than a line keeps its own line whole: paths are for copying.
pub(crate) fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let room = width.saturating_sub(indent).max(20);
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in printable(paragraph).split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.iter().map(|line| format!("{:indent$}{line}", "")).collect::<Vec<_>>().join("\n")
}

/// The text with an ellipsis for its middle when it is longer than `width`.
pub(crate) fn middle_cut(text: &str, width: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    // The end tells runs of one experiment apart, so it gets the odd character.
    let (head, tail) = (kept / 2, kept - kept / 2);
    let start = characters[..head].iter();
    start.chain(['…'].iter().take(width)).chain(&characters[characters.len() - tail..]).collect()
}

/// The text without characters that would steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// Takes from the widest column that may shrink until the line fits or none may.
fn shrunk_widths(columns: &[Column], width: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(Column::width).collect();
    let least: Vec<usize> = columns.iter().map(Column::least).collect();
    let room = width.saturating_sub(GAP * columns.len().saturating_sub(1));
    // A character at a time, so that columns of like width shrink alike.
    while widths.iter().sum::<usize>() > room {
        let shrinking = (0..columns.len()).filter(|&index| widths[index] > least[index]);
        let Some(widest) = shrinking.max_by_key(|&index| widths[index]) else { break };
        widths[widest] -= 1;
    }
    widths
}

fn lines_text(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(header: &str, cells: &[&str]) -> Column {
        Column::new(header, Alignment::Left, cells.iter().map(|cell| (*cell).to_owned()))
    }

    #[test]
    fn a_table_has_a_rule_below_its_header_and_no_trailing_space() {
        let numbers = Column::new("loss", Alignment::Right, ["0.5".to_owned(), "12.25".to_owned()]);
        let text = table(&[column("run", &["owl", "a"]), numbers], 80);
        assert_eq!(text, "run   loss\n──────────\nowl    0.5\na    12.25\n");
    }

    #[test]
    fn only_columns_that_may_shrink_are_cut_in_the_middle() {
        let names = column("name", &["fashion-calm-otter", "owl"]).shrinking_to(8);
        let text = table(&[names, column("state", &["finished", "running"])], 22);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[2..], ["fashi…-otter  finished", "owl           running"]);
    }

    #[test]
    fn a_cut_keeps_both_ends() {
        let cases = [
            ("owl", 3, "owl"),
            ("fashion-calm-otter", 9, "fash…tter"),
            ("abcdef", 4, "a…ef"),
            ("ab", 1, "…"),
            ("ab", 0, ""),
        ];
        for (text, width, expected) in cases {
            assert_eq!(middle_cut(text, width), expected);
        }
    }

    #[test]
    fn too_many_columns_are_stacked_with_the_first_repeated() {
        let text = stacked_tables(vec![column("run", &["owl"]), column("first", &["1"]), column("second", &["2"])], 12);
        assert_eq!(text, "run  first\n──────────\nowl  1\n\nrun  second\n───────────\nowl  2\n");
    }

    #[test]
    fn long_values_wrap_below_themselves_and_never_steer_the_terminal() {
        let rows = [("state", "one two three four five six"), ("b", "\u{1b}[31mred")];
        let rows = rows.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(pairs(&rows, 30), "  state  one two three four\n         five six\n  b      [31mred\n");
    }
}
