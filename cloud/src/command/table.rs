//! Columns for people to read.

use std::io::{self, Write};

/// Rows under a header, each column as wide as its widest cell, two spaces apart; numbers to the right.
pub(super) fn write(out: &mut impl Write, header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let head: Vec<String> = header.iter().map(|title| (*title).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::from(" ");
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let right = rows.iter().all(|row| row.get(column).is_some_and(|cell| is_number(cell)));
            line += " ";
            line += &match right && !rows.is_empty() {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            };
            line += " ";
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn is_number(cell: &str) -> bool {
    cell.starts_with(|first: char| first.is_ascii_digit() || first == '-')
}

/// 1234567 as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_to_the_right() {
        let rows = [["pcb-s", "9"], ["a", "1,234"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        let mut text = Vec::new();
        write(&mut text, &["name", "bytes"], &rows).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "  name   bytes\n  pcb-s      9\n  a      1,234\n");
        assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
