//! The lines of a spec around a fault, cut to the width of a terminal, for the report to underline.

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// Columns of the text that are shown: a line number and a margin stand before them.
const WIDTH: usize = 80;

/// Columns before the fault that are shown where the line is longer.
const BEFORE: usize = 30;

/// The line of a fault and its neighbours, with everything that is not for a terminal replaced.
#[derive(Debug)]
pub(crate) struct Excerpt {
    name: String,
    /// Up to three lines; the fault's own is the one that the span is in.
    text: String,
    pub span: SourceSpan,
    first_line: usize,
    /// Line and column of the fault, from 0.
    at: (usize, usize),
}

impl Excerpt {
    /// `start` and `len` are bytes of `text`, and end on the same line.
    pub(crate) fn new(name: &str, text: &str, start: usize, len: usize) -> Self {
        let start = text.floor_char_boundary(start);
        let end = text.floor_char_boundary(start.saturating_add(len));
        let line = text[..start].matches('\n').count();
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let column = text[line_start..start].chars().count();
        let first_shown = if column > WIDTH - BEFORE { column - BEFORE } else { 0 };
        let first_line = line.saturating_sub(1);
        let before = if line > 0 { text[..line_start - 1].rfind('\n').map_or(0, |at| at + 1) } else { 0 };
        let mut lines: Vec<String> =
            text[before..].split('\n').take(line - first_line + 2).map(|line| cut(line, first_shown)).collect();
        // What a last line break leaves behind is no line.
        if lines.len() > line - first_line + 1 && lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        let lines_before: usize = lines[..line - first_line].iter().map(|line| line.len() + 1).sum();
        let own = &lines[line - first_line];
        let offset = lines_before + own.chars().take(column - first_shown).map(char::len_utf8).sum::<usize>();
        let shown = lines.join("\n") + "\n";
        let n_chars = text[start..end].chars().count().clamp(1, WIDTH - (column - first_shown).min(WIDTH - 1));
        let underlined: usize =
            shown[offset..].chars().take_while(|c| *c != '\n').take(n_chars).map(char::len_utf8).sum();
        Self {
            name: name.to_owned(),
            span: (offset, underlined.max(1)).into(),
            text: shown,
            first_line,
            at: (line, column),
        }
    }
}

/// The part of a line that is shown. A control character could make a terminal do anything.
fn cut(line: &str, first: usize) -> String {
    let plain = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    line.trim_end_matches('\r').chars().skip(first).take(WIDTH).map(plain).collect()
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        context_lines_before: usize,
        _: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        // With context it is asked for what to show, without for what to name above it.
        let (data, span, (line, column)) = if context_lines_before > 0 {
            (self.text.as_bytes(), (0, self.text.len()).into(), (self.first_line, 0))
        } else {
            (&self.text.as_bytes()[span.offset()..span.offset() + span.len()], *span, self.at)
        };
        let n_lines = data.iter().filter(|byte| **byte == b'\n').count();
        Ok(Box::new(MietteSpanContents::new_named(self.name.clone(), data, span, line, column, n_lines)))
    }
}
