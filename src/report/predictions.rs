//! What a network says of images, as lines and as a page.

use std::fmt::Write;
use std::path::PathBuf;

/// The most probable classes of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    pub path: PathBuf,
    /// Class name and probability, the most probable first.
    pub top: Vec<(String, f64)>,
    /// A picture of it for a page: a PNG in base64.
    pub picture: Option<String>,
}

/// A block of lines for each image.
pub fn text(predicted: &Predicted) -> String {
    let width = predicted.top.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines = predicted.top.iter().map(|(name, probability)| format!("  {name:width$}  {probability:.3}\n"));
    format!("{}\n{}", printable(&predicted.path.display().to_string()), lines.collect::<String>())
}

/// File names may hold what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A page of its own with each picture and its classes as bars.
pub fn page(title: &str, predictions: &[Predicted]) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>\
         body{{font:15px/1.4 sans-serif;margin:2em;max-width:60em}}section{{display:flex;gap:1.5em;margin:1.5em 0}}\
         img{{width:160px;height:160px;object-fit:contain;background:#eee}}div.b{{flex:1}}h2{{font-size:1em;margin:0 0 .5em}}\
         p{{margin:.2em 0;background:linear-gradient(to right,#b8d4f0 var(--p),#f3f3f3 var(--p));padding:.1em .5em;\
         display:flex;justify-content:space-between}}</style></head><body>\n<h1>{title}</h1>\n",
        title = escaped(title)
    );
    for predicted in predictions {
        let name = escaped(&predicted.path.display().to_string());
        let picture = predicted.picture.as_deref().unwrap_or_default();
        let _ = write!(
            html,
            "<section><img alt=\"{name}\" src=\"data:image/png;base64,{picture}\"><div class=\"b\"><h2>{name}</h2>"
        );
        for (class, probability) in &predicted.top {
            let percent = 100.0 * probability;
            let class = escaped(class);
            let _ =
                write!(html, "<p style=\"--p:{percent:.1}%\"><span>{class}</span><span>{probability:.3}</span></p>");
        }
        html += "</div></section>\n";
    }
    html + "</body></html>\n"
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_names_as_they_are() {
        let top = vec![("a<b".to_owned(), 0.75), ("c".to_owned(), 0.25)];
        let predicted = Predicted { path: PathBuf::from("<script>.png"), top, picture: None };
        assert_eq!(text(&predicted), "<script>.png\n  a<b  0.750\n  c    0.250\n");
        let page = page("x & y", &[predicted]);
        assert!(page.contains("x &amp; y") && page.contains("a&lt;b") && page.contains("--p:75.0%"), "{page}");
        assert!(!page.contains("<script>"), "{page}");
    }
}
