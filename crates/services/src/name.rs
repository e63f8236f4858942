//! Domain names in the form of messages.

use std::fmt;

/// A domain name: labels of 1 to 63 octets, 255 octets with their lengths and the root (RFC 1035 section 3.1). Letters
/// are lower case, as names are compared (RFC 4343).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Labels with their lengths in front, and the root's 0.
    wire: Vec<u8>,
}

/// The text or the octets are no domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a domain name: labels of letters, digits, `-` and `_`, at most 63 each and 253 in all")]
pub struct NotAName;

const LONGEST: usize = 255;
const LONGEST_LABEL: usize = 63;

impl Name {
    /// Reads text such as `lab.internal`, with or without the final dot.
    ///
    /// # Errors
    /// [`NotAName`] if labels are empty or too long, or hold other characters than letters, digits, `-` and `_`.
    pub fn parse(text: &str) -> Result<Name, NotAName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let labels = Vec::from_iter(text.split('.').map(str::as_bytes));
        let plain = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        if labels.iter().all(|label| label.iter().all(plain)) { Name::of(&labels) } else { Err(NotAName) }
    }

    /// Makes a name of labels of any octets.
    ///
    /// # Errors
    /// [`NotAName`] if a label or the name is too long, or a label empty.
    pub fn of(labels: &[&[u8]]) -> Result<Name, NotAName> {
        let mut wire = Vec::new();
        for label in labels {
            if !(1..=LONGEST_LABEL).contains(&label.len()) {
                return Err(NotAName);
            }
            wire.push(label.len() as u8);
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        wire.push(0);
        if wire.len() <= LONGEST { Ok(Name { wire }) } else { Err(NotAName) }
    }

    /// Reads a name without compression from the front of `octets`, and returns its length there.
    ///
    /// # Errors
    /// [`NotAName`] if it is cut off, compressed or too long.
    pub fn take(octets: &[u8]) -> Result<(Name, usize), NotAName> {
        let mut at = 0;
        loop {
            let len = usize::from(*octets.get(at).ok_or(NotAName)?);
            at += 1;
            if len == 0 {
                break;
            }
            if len > LONGEST_LABEL {
                return Err(NotAName);
            }
            at += len;
            if at >= LONGEST {
                return Err(NotAName);
            }
        }
        // Lengths are below the letters.
        Ok((Name { wire: octets[..at].to_ascii_lowercase() }, at))
    }

    /// This name under a domain; nothing if that is too long.
    pub fn under(&self, domain: &Name) -> Option<Name> {
        let mut wire = self.wire[..self.wire.len() - 1].to_vec();
        wire.extend(&domain.wire);
        (wire.len() <= LONGEST).then_some(Name { wire })
    }

    /// The octets as in a message.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The labels, the most particular first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.wire.as_slice();
        std::iter::from_fn(move || {
            let (len, octets) = rest.split_first().filter(|(len, _)| **len > 0)?;
            let (label, behind) = octets.split_at(usize::from(*len));
            rest = behind;
            Some(label)
        })
    }

    /// The labels in front of `domain`; `None` if the name is not in it.
    pub fn within(&self, domain: &Name) -> Option<Vec<&[u8]>> {
        let labels = Vec::from_iter(self.labels());
        let at = labels.len().checked_sub(domain.labels().count())?;
        labels[at..].iter().copied().eq(domain.labels()).then(|| labels[..at].to_vec())
    }
}

impl fmt::Display for Name {
    /// Writes the labels with dots between, and what is not a plain character as `\DDD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wire.len() == 1 {
            return f.write_str(".");
        }
        for (index, label) in self.labels().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            for &octet in label {
                if octet.is_ascii_graphic() && octet != b'.' && octet != b'\\' {
                    write!(f, "{}", char::from(octet))?;
                } else {
                    write!(f, "\\{octet:03}")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Writes names behind each other, with pointers to ends that were written before (RFC 1035 section 4.1.4; RFC 3397
/// section 2 for a search list). Positions count from the start of the list.
pub fn compressed<'a>(names: impl IntoIterator<Item = &'a Name>) -> Vec<u8> {
    let mut written = Vec::<(&[u8], usize)>::new();
    let mut out = Vec::new();
    for name in names {
        let mut rest = name.wire();
        loop {
            if rest[0] == 0 {
                out.push(0);
                break;
            }
            if let Some(&(_, at)) = written.iter().find(|(end, _)| *end == rest) {
                out.extend((0xc000 | at as u16).to_be_bytes());
                break;
            }
            if out.len() < 0x4000 {
                written.push((rest, out.len()));
            }
            let (label, behind) = rest.split_at(1 + usize::from(rest[0]));
            out.extend(label);
            rest = behind;
        }
    }
    out
}

/// Makes a label of what a guest calls itself: letters in lower case, digits, and hyphens for everything else.
pub fn label_of(octets: &[u8]) -> Option<String> {
    let first = octets.split(|octet| matches!(octet, b'.' | 0)).next().unwrap_or_default();
    let plain = first.iter().take(LONGEST_LABEL).map(|octet| match octet.to_ascii_lowercase() {
        octet if octet.is_ascii_alphanumeric() => char::from(octet),
        _ => '-',
    });
    let label = String::from_iter(plain);
    let label = label.trim_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn text_and_octets() {
        let lab = name("Lab.internal.");
        assert_eq!(lab.wire(), b"\x03lab\x08internal\0");
        assert_eq!(lab.to_string(), "lab.internal");
        assert_eq!(Name::take(b"\x03LAB\x08internal\0rest"), Ok((lab.clone(), 14)));
        assert_eq!(name("web").under(&lab).unwrap().to_string(), "web.lab.internal");
        assert_eq!(Name::of(&[b"a.b", b"\x07"]).unwrap().to_string(), "a\\046b.\\007");
        for text in ["", "a..b", "a b", "ä", &"a".repeat(64), &vec!["a".repeat(63); 4].join(".")] {
            assert_eq!(Name::parse(text), Err(NotAName), "{text}");
        }
        assert!(Name::parse(&[&"a".repeat(63) as &str; 3].join(".")).is_ok());
    }

    #[test]
    fn octets_that_are_no_name() {
        for octets in [&b""[..], b"\x03ab", b"\xc0\x0c", b"\x40", &[1, b'a'].repeat(128)] {
            assert_eq!(Name::take(octets), Err(NotAName), "{octets:?}");
        }
        let longest = [&[1, b'a'].repeat(127)[..], &[0]].concat();
        assert_eq!(Name::take(&longest).unwrap().1, 255);
    }

    #[test]
    fn names_in_a_domain() {
        let lab = name("lab.internal");
        assert_eq!(name("a.web.lab.internal").within(&lab), Some(vec![&b"a"[..], b"web"]));
        assert_eq!(lab.within(&lab), Some(vec![]));
        assert_eq!(name("xlab.internal").within(&lab), None);
        assert_eq!(name("internal").within(&lab), None);
        assert_eq!(lab.within(&Name::of(&[]).unwrap()).unwrap().len(), 2);
    }

    #[test]
    fn lists_share_ends() {
        let list = [name("lab.internal"), name("corp.internal"), name("lab.internal")];
        assert_eq!(compressed(&list), b"\x03lab\x08internal\0\x04corp\xc0\x04\xc0\0");
    }

    #[test]
    fn labels_that_guests_choose() {
        for (octets, label) in [
            (&b"Web"[..], Some("web")),
            (b"web.example.org", Some("web")),
            (b"my laptop\0", Some("my-laptop")),
            (b"-x-", Some("x")),
            (b"\xff\xfe", None),
            (b"", None),
        ] {
            assert_eq!(label_of(octets).as_deref(), label);
        }
        assert_eq!(label_of(&[b'a'; 300]).unwrap().len(), 63);
    }
}
