//! Letters as outlines, and how wide they are.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// One letter, on a grid of 1000 units an em, y down from the base line.
pub(crate) struct Letter {
    width: u32,
    /// In the language of SVG paths; empty for a blank.
    pub(crate) outline: &'static str,
}

static LETTERS: LazyLock<BTreeMap<char, Letter>> = LazyLock::new(|| {
    let lines = include_str!("letters.txt").lines();
    lines.filter_map(letter).collect()
});

fn letter(line: &'static str) -> Option<(char, Letter)> {
    let mut fields = line.splitn(3, ' ');
    let code = u32::from_str_radix(fields.next()?, 16).ok()?;
    let width = fields.next()?.parse().ok()?;
    let outline = fields.next().unwrap_or_default();
    Some((char::from_u32(code)?, Letter { width, outline }))
}

/// The letter that is drawn for a character: itself, or `?`.
pub(crate) fn drawn(character: char) -> char {
    if LETTERS.contains_key(&character) {
        character
    } else {
        '?'
    }
}

/// The outline of a letter that is drawn.
pub(crate) fn outline(letter: char) -> &'static str {
    LETTERS.get(&letter).map_or("", |letter| letter.outline)
}

/// How far a letter moves on, in thousandths of the size.
pub(crate) fn advance(letter: char) -> u32 {
    LETTERS.get(&letter).map_or(0, |letter| letter.width)
}

/// The width of a text of a size, in the size's units.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    let units: u32 = text
        .chars()
        .map(|character| advance(drawn(character)))
        .sum();
    f64::from(units) * size / 1000.0
}

/// A text cut to a number of characters.
pub(crate) fn shortened(text: &str, characters_max: usize) -> String {
    if text.chars().count() <= characters_max {
        return text.to_owned();
    }
    let begin: String = text
        .chars()
        .take(characters_max.saturating_sub(1))
        .collect();
    format!("{begin}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_ascii_can_be_drawn() {
        for code in ' '..='~' {
            assert_eq!(drawn(code), code);
            assert_eq!(outline(code).is_empty(), code == ' ', "{code}");
        }
        assert_eq!(drawn('ä'), '?');
        assert!(width("wide", 10.0) > 2.0 * width("il", 10.0));
        assert_eq!(shortened("abcdef", 4), "abc…");
    }
}
