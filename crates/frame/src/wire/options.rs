use core::iter::FusedIterator;

use super::Malformed;

/// One option of an IPv4 or TCP header, other than "no operation" and "end of list".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionField<'a> {
    /// The kind of the option.
    pub kind: u8,
    /// Its value, without kind and length.
    pub data: &'a [u8],
}

/// Walks the options of an IPv4 or TCP header (RFC 791 section 3.1, RFC 9293 section 3.2).
///
/// "No operation" is skipped and "end of list" ends the walk. An option with a wrong length is yielded once as
/// [`Malformed::Length`], and ends the walk too.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;

    #[inline]
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Options { rest: octets }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<OptionField<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while let [Self::NO_OPERATION, rest @ ..] = self.rest {
            self.rest = rest;
        }
        let octets = core::mem::take(&mut self.rest);
        match *octets {
            [] | [Self::END, ..] => None,
            [kind, len, ..] if len >= 2 && usize::from(len) <= octets.len() => {
                let (option, rest) = octets.split_at(usize::from(len));
                self.rest = rest;
                Some(Ok(OptionField { kind, data: &option[2..] }))
            }
            _ => Some(Err(Malformed::Length)),
        }
    }
}

impl FusedIterator for Options<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walk() {
        let octets = [2, 4, 0x05, 0xb4, 1, 1, 4, 2, 0, 9, 9];
        let options: Vec<_> = Options::new(&octets).collect();
        assert_eq!(
            options,
            [Ok(OptionField { kind: 2, data: &[0x05, 0xb4] }), Ok(OptionField { kind: 4, data: &[] })]
        );
    }

    #[test]
    fn wrong_lengths_end_the_walk() {
        let bad: [&[u8]; 4] = [&[3, 0, 1, 1], &[3, 1, 1, 1], &[3, 5, 1, 1], &[3]];
        for octets in bad {
            assert_eq!(Options::new(octets).collect::<Vec<_>>(), [Err(Malformed::Length)], "{octets:?}");
        }
    }
}
