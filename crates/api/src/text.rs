//! Text for terminals and logs.

use std::borrow::Cow;

/// Writes out every character of `text` that a terminal or a log would obey rather than show: control characters,
/// line feeds, and the invisible ones that turn the direction of text around (Unicode's categories C and Z, but the
/// space). They come as in `\n` or `\u{1b}`; everything else, backslashes too, stays as it is.
///
/// Whatever a peer chose (a path, a description, the name of an interface) has to pass here before people see it.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_plain(character) {
            true => plain.push(character),
            false => plain.extend(character.escape_debug()),
        }
    }
    Cow::Owned(plain)
}

/// Tells whether a character is only shown.
pub fn is_plain(character: char) -> bool {
    match character.is_ascii() {
        true => !character.is_ascii_control(),
        false => character.escape_debug().len() == 1,
    }
}

/// Returns the one of `known` names that somebody may have meant who wrote `name`, if one is near enough.
pub fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    /// Comparing costs the product of the lengths; no name or key is longer than this.
    const LONGEST: usize = 40;
    known
        .into_iter()
        .filter(|candidate| name.len() <= LONGEST && candidate.len() <= LONGEST)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        for (text, expected) in [
            ("", ""),
            ("/run/a b\\n\"'é漢.sock", "/run/a b\\n\"'é漢.sock"),
            ("a\n2026-01-01 ERROR b", "a\\n2026-01-01 ERROR b"),
            ("\r\t\u{0}", "\\r\\t\\0"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
            ("\u{202e}gnp.exe\u{2066}\u{200f}", "\\u{202e}gnp.exe\\u{2066}\\u{200f}"),
            ("\u{2028}\u{feff}\u{200b}\u{e0041}", "\\u{2028}\\u{feff}\\u{200b}\\u{e0041}"),
        ] {
            assert_eq!(escaped(text), expected, "{text:?}");
        }
        assert!(matches!(escaped("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn the_nearest_name_is_one_that_could_be_meant() {
        for (name, near) in [("wbe", Some("web")), ("web2", Some("web")), ("nobody", None), ("", None)] {
            assert_eq!(nearest(name, ["web", "guests"]), near, "{name}");
        }
        assert_eq!(nearest(&"w".repeat(1000), ["web"]), None);
    }
}
