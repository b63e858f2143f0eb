//! Tables in Markdown, and the numbers in them.

use std::fmt::Write as _;

/// The one in the middle; of an even number, the mean of the two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

/// The least.
pub(crate) fn least(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::NAN, f64::min)
}

/// A table: its head, and its rows.
pub(crate) fn table<const COLUMNS: usize>(
    head: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut table = format!(
        "| {} |\n|---|{}\n",
        head.join(" | "),
        "---:|".repeat(COLUMNS - 1)
    );
    for row in rows {
        // Writing to a string does not fail.
        let _ = writeln!(table, "| {} |", row.join(" | "));
    }
    table
}

/// A number with its thousands apart: `1,761,000`.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut apart = String::new();
    for (position, digit) in digits.char_indices() {
        let left = digits.len() - position;
        if position > 0 && left % 3 == 0 {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

/// A share: `97 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]).to_string(), "2");
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]).to_string(), "2.5");
        assert!(median([]).is_nan());
        assert_eq!(least([3.0, 1.0, 2.0]).to_string(), "1");
    }

    #[test]
    fn thousands_are_apart() {
        let numbers = [7.4, 999.0, 1000.0, 1_761_234.0].map(thousands);
        assert_eq!(numbers, ["7", "999", "1,000", "1,761,234"]);
    }

    #[test]
    fn a_table_is_markdown() {
        let rows = [["a".to_owned(), "1".to_owned()]];
        assert_eq!(
            table(["x", "y"], rows),
            "| x | y |\n|---|---:|\n| a | 1 |\n"
        );
    }
}
