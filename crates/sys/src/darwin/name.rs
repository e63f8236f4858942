use std::fmt;
use std::io;

/// Octets of a name with the zero behind it (net/if.h, IFNAMSIZ).
const SIZE: usize = 16;

/// The name of an interface, in the form of the kernel's structures: 1 to 15 octets, filled up with zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName([u8; SIZE]);

impl InterfaceName {
    /// The name `text`.
    ///
    /// # Errors
    /// `InvalidInput` for what no interface can be called: empty, longer than 15 octets, or with anything in it but
    /// visible ASCII other than `/`.
    pub fn new(text: &str) -> io::Result<InterfaceName> {
        InterfaceName::of(text.as_bytes()).ok_or_else(|| {
            let text: String = text.chars().take(40).collect();
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{text}` is no interface name: 1 to 15 letters and digits, as in en0"),
            )
        })
    }

    /// The name in a field that the kernel wrote: up to the first zero, or all of it; `None` when that is no name.
    pub fn from_field(field: &[u8]) -> Option<InterfaceName> {
        InterfaceName::of(field.split(|octet| *octet == 0).next()?)
    }

    /// The name of unit `unit` of the interfaces in `family`, which is a field that the kernel wrote: `en` and 0 are
    /// `en0`. `None` when that is no name.
    pub fn of_unit(family: &[u8], unit: u32) -> Option<InterfaceName> {
        let family = InterfaceName::from_field(family)?;
        InterfaceName::of(format!("{family}{unit}").as_bytes())
    }

    fn of(octets: &[u8]) -> Option<InterfaceName> {
        let is_good = |octet: &u8| octet.is_ascii_graphic() && *octet != b'/';
        if octets.is_empty() || octets.len() >= SIZE || !octets.iter().all(is_good) {
            return None;
        }
        let mut name = [0; SIZE];
        name[..octets.len()].copy_from_slice(octets);
        Some(InterfaceName(name))
    }

    /// The name for a structure's field, with zeros behind it.
    pub const fn octets(&self) -> &[u8; SIZE] {
        &self.0
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|octet| *octet == 0).unwrap_or(SIZE);
        str::from_utf8(&self.0[..len]).expect("a name is ASCII")
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_with_zeros_behind_it() {
        let name = InterfaceName::new("bridge100").unwrap();
        assert_eq!(name.octets(), b"bridge100\0\0\0\0\0\0\0");
        assert_eq!(name.as_str(), "bridge100");
        assert_eq!(InterfaceName::from_field(b"en0\0rest"), InterfaceName::new("en0").ok());
    }

    #[test]
    fn what_no_interface_can_be_called() {
        for text in ["", "sixteen-letters-", "a/b", "a b", "en\u{e9}", "en\n", "en\0"] {
            assert_eq!(InterfaceName::new(text).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{text:?}");
        }
        assert_eq!(InterfaceName::from_field(b"\0en0"), None);
        assert_eq!(InterfaceName::from_field(b"0123456789abcdef"), None);
        assert_eq!(InterfaceName::from_field(b""), None);
    }

    #[test]
    fn a_unit_makes_a_name() {
        assert_eq!(InterfaceName::of_unit(b"feth\0\0\0\0", 12), InterfaceName::new("feth12").ok());
        assert_eq!(InterfaceName::of_unit(b"a-long-name\0", u32::MAX), None);
    }
}
