use core::fmt;

/// A link's name: a base name and a unit number, shown one after the other as in `tap0`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    octets: [u8; Name::MAX_BASE],
    len: u8,
    unit: Option<u32>,
}

/// The text is no base name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` cannot name a link; use 1 to 15 letters, digits, `-`, `_` or `.`")]
pub struct InvalidName(pub String);

impl Name {
    /// Octets that a base name has at most.
    pub const MAX_BASE: usize = 15;

    /// A name of `base` and `unit`; without a unit the registry chooses the lowest free one at each attach.
    ///
    /// # Errors
    /// [`InvalidName`] unless the base is 1 to 15 ASCII letters, digits, `-`, `_` or `.`.
    pub fn new(base: &str, unit: Option<u32>) -> Result<Name, InvalidName> {
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
        if base.is_empty() || base.len() > Name::MAX_BASE || !base.bytes().all(allowed) {
            return Err(InvalidName(base.chars().take(40).collect()));
        }
        let mut octets = [0; Name::MAX_BASE];
        octets[..base.len()].copy_from_slice(base.as_bytes());
        Ok(Name { octets, len: base.len() as u8, unit })
    }

    /// The name without its unit.
    pub fn base(&self) -> &str {
        str::from_utf8(&self.octets[..self.len as usize]).expect("a base name is ASCII")
    }

    /// The unit; `None` until the registry has chosen one.
    pub const fn unit(&self) -> Option<u32> {
        self.unit
    }

    /// The same base with another unit.
    pub const fn with_unit(self, unit: u32) -> Name {
        Name { unit: Some(unit), ..self }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Some(unit) => write!(f, "{}{unit}", self.base()),
            None => f.write_str(self.base()),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_and_unit() {
        let name = Name::new("tap", Some(7)).unwrap();
        assert_eq!((name.to_string().as_str(), name.base(), name.unit()), ("tap7", "tap", Some(7)));
        assert_eq!(Name::new("tap", None).unwrap().with_unit(0).to_string(), "tap0");
    }

    #[test]
    fn base_is_short_and_plain() {
        assert!(Name::new("fifteen-octets-", None).is_ok());
        for base in ["", "sixteen-octets--", "a b", "a/b", "é", "a\n"] {
            assert!(Name::new(base, None).is_err(), "{base:?}");
        }
    }
}
