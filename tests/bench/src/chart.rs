//! Charts: bars as SVG, which fit a light page and a dark one.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// All in pixels.
const WIDTH: u32 = 720;
const NAMES: u32 = 270;
const VALUES: u32 = 70;
const TOP: u32 = 40;
const ROW: u32 = 28;
const BAR: u32 = 18;

/// Writes a chart with one bar for each name into a folder.
pub(crate) fn write(folder: &Path, name: &str, title: &str, bars: &[(String, f64)]) -> Result<()> {
    let path = folder.join(format!("{name}.svg"));
    std::fs::create_dir_all(folder)?;
    std::fs::write(&path, svg(title, bars)).with_context(|| path.display().to_string())
}

fn svg(title: &str, bars: &[(String, f64)]) -> String {
    let rows = u32::try_from(bars.len()).unwrap_or(u32::MAX);
    let height = TOP + rows * ROW + 8;
    let most = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" font-family=\"sans-serif\" \
         font-size=\"13\">\n\
         <style>text{{fill:#1f2328}}rect{{fill:#0969da}}.first{{fill:#8c959f}}\
         @media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}rect{{fill:#4493f8}}\
         .first{{fill:#656c76}}}}</style>\n\
         <text x=\"0\" y=\"18\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    for (row, (name, value)) in (0..).zip(bars) {
        let top = TOP + row * ROW;
        let base = top + BAR - 4;
        let length = f64::from(WIDTH - NAMES - VALUES) * value / most;
        let class = if row == 0 { " class=\"first\"" } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>\
             <rect{class} x=\"{NAMES}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\"/>\
             <text x=\"{:.1}\" y=\"{base}\">{value:.2}</text>",
            NAMES - 8,
            escaped(name),
            f64::from(NAMES) + length + 6.0,
        );
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_its_part() {
        let bars = [("a <b>".to_owned(), 2.0), ("c".to_owned(), 4.0)];
        let svg = svg("CPU & time", &bars);
        assert!(svg.contains("CPU &amp; time") && svg.contains("a &lt;b>"));
        assert!(svg.contains("width=\"190.0\"") && svg.contains("width=\"380.0\""));
        assert!(svg.contains(">2.00<") && svg.contains(">4.00<"));
    }
}
