//! The folders of kept features as text.

use std::path::Path;

use crate::report::number::{ABSENT, bytes_text, count_text};
use crate::report::table::{Alignment, Column, table};
use crate::report::time::short_minute_text;

/// One network's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRow {
    pub id: String,
    /// `None` where nobody knows what they are.
    pub backbone: Option<String>,
    pub cut: Option<String>,
    pub images: Option<String>,
    pub n_rows: u64,
    pub n_bytes: u64,
    pub last_used_ms: Option<i64>,
    pub is_in_use: bool,
}

/// Of sixteen digits; `xp cache clear` takes the beginning of an id.
const ID_CHARS: usize = 8;

/// A table of them.
pub fn list(rows: &[CacheRow], width: usize) -> String {
    if rows.is_empty() {
        return "nothing is kept\n".to_owned();
    }
    let column =
        |header, alignment, cell: &dyn Fn(&CacheRow) -> String| Column::new(header, alignment, rows.iter().map(cell));
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| ABSENT.to_owned());
    let columns = [
        column("id", Alignment::Left, &|row| row.id.chars().take(ID_CHARS).collect()),
        column("backbone", Alignment::Left, &|row| known(&row.backbone)).shrinking_to(10),
        column("frozen to", Alignment::Left, &|row| known(&row.cut)).shrinking_to(10),
        column("images", Alignment::Left, &|row| known(&row.images)),
        column("rows", Alignment::Right, &|row| count_text(row.n_rows)),
        column("size", Alignment::Right, &|row| bytes_text(row.n_bytes)),
        column("used (UTC)", Alignment::Left, &|row| match row.last_used_ms {
            _ if row.is_in_use => "now".to_owned(),
            Some(at_ms) => short_minute_text(at_ms),
            None => ABSENT.to_owned(),
        }),
    ];
    table(&columns, width)
}

/// What all of it takes.
pub fn size(n_bytes: u64, folder: &Path) -> String {
    format!("{} in {}\n", bytes_text(n_bytes), folder.display())
}

/// What was deleted.
pub fn cleared(n_bytes: u64) -> String {
    format!("{} cleared\n", bytes_text(n_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fit_eighty_columns() {
        let row = |id: &str, backbone: Option<&str>, is_in_use| CacheRow {
            id: id.to_owned(),
            backbone: backbone.map(str::to_owned),
            cut: backbone.map(|_| "blocks.5.3.conv_pwl".to_owned()),
            images: backbone.map(|_| "224×224".to_owned()),
            n_rows: 25_000,
            n_bytes: 691_200_000,
            last_used_ms: Some(1_764_000_000_000),
            is_in_use,
        };
        let rows = [
            row("951b7c668d8e1a56", Some("efficientnet_lite0"), false),
            row("0123456789abcdef", Some("vgg16"), true),
            row("89abcdef01234567", None, false),
        ];
        insta::assert_snapshot!(list(&rows, 80), @r"
        id        backbone        frozen to      images     rows       size  used (UTC)
        ────────────────────────────────────────────────────────────────────────────────
        951b7c66  effici…t_lite0  blocks…nv_pwl  224×224  25,000  659.2 MiB  11-24 16:00
        01234567  vgg16           blocks…nv_pwl  224×224  25,000  659.2 MiB  now
        89abcdef  –               –              –        25,000  659.2 MiB  11-24 16:00
        ");
        assert_eq!(list(&[], 80), "nothing is kept\n");
    }
}
