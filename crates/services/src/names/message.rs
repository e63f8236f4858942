//! DNS messages: questions, read, and answers, written (RFC 1035 section 4, RFC 6891).

use std::net::IpAddr;

use crate::Name;

/// Octets of a message's header.
pub const HEADER: usize = 12;
/// Octets of an answer that every client takes by UDP.
const LEAST_UDP: usize = 512;
/// Octets of a question that we take by UDP (RFC 9715 section 3.2.1).
const OUR_UDP: u16 = 1232;
/// Records of a message that are looked at.
const MOST_RECORDS: usize = 256;

const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const CHECKING_DISABLED: u16 = 0x0010;

/// Types of records, by the names of the IANA registry.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the registry")]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const AAAA: u16 = 28;
    pub const OPT: u16 = 41;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// The class of the internet.
pub const IN: u16 = 1;

/// Result codes (RFC 1035 section 4.1.1, RFC 6891 section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No error.
    NoError = 0,
    /// The question is malformed.
    Format = 1,
    /// The servers fail.
    ServerFailure = 2,
    /// There is no such name.
    NoSuchName = 3,
    /// The operation is not known.
    NotImplemented = 4,
    /// The question is not to be asked here.
    Refused = 5,
    /// A version of EDNS that is not known.
    BadVersion = 16,
}

/// The sender's wishes by EDNS (RFC 6891 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Octets of the largest UDP message that it takes.
    pub size: u16,
    /// The version.
    pub version: u8,
    /// True if it wants DNSSEC's records.
    pub dnssec: bool,
}

/// A question with one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The number that the answer has to have.
    pub id: u16,
    flags: u16,
    /// The name.
    pub name: Name,
    /// The type of record.
    pub kind: u16,
    /// The class.
    pub class: u16,
    /// The section as sent: letters are answered in the case that they have there.
    pub section: Vec<u8>,
    /// EDNS, if the sender speaks it.
    pub edns: Option<Edns>,
}

/// Octets that are not a question with one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoQuestion {
    /// They are no question at all, and get no answer.
    Ignored,
    /// They get this answer.
    Answered(Vec<u8>),
}

fn word(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..at + 2).map(|octets| u16::from_be_bytes([octets[0], octets[1]]))
}

/// The end of a name that begins at `at`; a pointer ends it.
fn name_end(octets: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*octets.get(at)?) {
            0 => return Some(at + 1),
            len @ 1..0x40 => at += 1 + len,
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// A record of a message.
struct Record<'a> {
    kind: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
}

/// Walks the records behind the question section, as far as they are whole.
fn records(octets: &[u8], mut at: usize) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let fixed = name_end(octets, at)?;
        let len = usize::from(word(octets, fixed + 8)?);
        let data = octets.get(fixed + 10..fixed + 10 + len)?;
        at = fixed + 10 + len;
        let ttl = u32::from(word(octets, fixed + 4)?) << 16 | u32::from(word(octets, fixed + 6)?);
        Some(Record { kind: word(octets, fixed)?, class: word(octets, fixed + 2)?, ttl, data })
    })
}

impl Question {
    /// Reads a question.
    ///
    /// # Errors
    /// [`NoQuestion`] for anything but a standard query with one name that is not compressed.
    pub fn parse(octets: &[u8]) -> Result<Question, NoQuestion> {
        let (Some(id), Some(flags)) = (word(octets, 0), word(octets, 2)) else {
            return Err(NoQuestion::Ignored);
        };
        if octets.len() < HEADER || flags & RESPONSE != 0 {
            return Err(NoQuestion::Ignored);
        }
        let bare = |code: Code| {
            let flags = RESPONSE | flags & (OPCODE | RECURSION_DESIRED | CHECKING_DISABLED) | code as u16;
            NoQuestion::Answered([&id.to_be_bytes()[..], &flags.to_be_bytes(), &[0; 8]].concat())
        };
        if flags & OPCODE != 0 {
            return Err(bare(Code::NotImplemented));
        }
        if word(octets, 4) != Some(1) {
            return Err(bare(Code::Format));
        }
        let (name, len) = Name::take(&octets[HEADER..]).map_err(|_| bare(Code::Format))?;
        let end = HEADER + len + 4;
        let section = octets.get(HEADER..end).ok_or_else(|| bare(Code::Format))?;
        let mut question = Question {
            id,
            flags,
            name,
            kind: u16::from_be_bytes([section[len], section[len + 1]]),
            class: u16::from_be_bytes([section[len + 2], section[len + 3]]),
            section: section.to_vec(),
            edns: None,
        };
        let counts = [6, 8, 10].map(|at| usize::from(word(octets, at).unwrap_or(0)));
        let mut behind = records(octets, end).take(counts.iter().sum::<usize>().min(MOST_RECORDS));
        question.edns = behind.find(|record| record.kind == kind::OPT).map(|record| Edns {
            size: record.class,
            version: (record.ttl >> 16) as u8,
            dnssec: record.ttl & 0x8000 != 0,
        });
        Ok(question)
    }

    /// Octets of the largest answer by UDP, of which `room` fit into one packet.
    pub fn udp_limit(&self, room: usize) -> usize {
        let wanted = self.edns.map_or(0, |edns| usize::from(edns.size));
        wanted.max(LEAST_UDP).min(room.max(LEAST_UDP))
    }

    /// An answer without records.
    pub fn answer(&self, code: Code) -> Vec<u8> {
        Answer::new(self, code, false).finish(usize::MAX)
    }

    /// True if a message is an answer to this question, under that number. Letters may have another case.
    pub fn is_answered_by(&self, id: u16, message: &[u8]) -> bool {
        let section = message.get(HEADER..HEADER + self.section.len());
        word(message, 0) == Some(id)
            && word(message, 2).is_some_and(|flags| flags & RESPONSE != 0)
            && word(message, 4) == Some(1)
            && section.is_some_and(|section| section.eq_ignore_ascii_case(&self.section))
    }

    /// True if an answer says that the server has failed: without a question, or with ours.
    pub fn is_failure(&self, id: u16, message: &[u8]) -> bool {
        let flags = word(message, 2).unwrap_or(0);
        word(message, 0) == Some(id)
            && flags & RESPONSE != 0
            && matches!(flags & 0xf, 2 | 4 | 5)
            && (word(message, 4) == Some(0) || self.is_answered_by(id, message))
    }

    /// The addresses that an answer has, with their times to live in seconds.
    pub fn addresses(&self, message: &[u8]) -> Vec<(IpAddr, u32)> {
        let count = word(message, 6).map_or(0, usize::from).min(MOST_RECORDS);
        let found = records(message, HEADER + self.section.len()).take(count).filter_map(|record| {
            let address = match record.kind {
                kind::A => IpAddr::from(<[u8; 4]>::try_from(record.data).ok()?),
                kind::AAAA => IpAddr::from(<[u8; 16]>::try_from(record.data).ok()?),
                _ => return None,
            };
            (record.class == IN).then_some((address, record.ttl))
        });
        found.collect()
    }

    /// Makes an answer fit: one that is longer than `limit` is cut to its header and the question, and says so.
    pub fn fit(&self, message: Vec<u8>, limit: usize) -> Vec<u8> {
        if message.len() <= limit {
            return message;
        }
        let flags = word(&message, 2).unwrap_or(RESPONSE);
        let mut answer = Answer::new(self, Code::NoError, false);
        answer.octets[2..4].copy_from_slice(&(flags | TRUNCATED).to_be_bytes());
        answer.finish(usize::MAX)
    }
}

/// An answer, as it is written.
pub struct Answer<'a> {
    question: &'a Question,
    octets: Vec<u8>,
    code: Code,
}

/// The section of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The answers.
    Answer = 6,
    /// The authority.
    Authority = 8,
}

impl<'a> Answer<'a> {
    /// Begins an answer.
    pub fn new(question: &'a Question, code: Code, authoritative: bool) -> Answer<'a> {
        let flags = RESPONSE
            | question.flags & (RECURSION_DESIRED | CHECKING_DISABLED)
            | RECURSION_AVAILABLE
            | if authoritative { AUTHORITATIVE } else { 0 }
            | code as u16 & 0xf;
        let mut octets = question.id.to_be_bytes().to_vec();
        octets.extend(flags.to_be_bytes());
        octets.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        octets.extend(&question.section);
        Answer { question, octets, code }
    }

    /// Adds a record; without an owner it is the question's name. All records of a section come before the next one's.
    pub fn push(&mut self, section: Section, owner: Option<&Name>, kind: u16, ttl: u32, data: &[u8]) {
        match owner {
            Some(owner) => self.octets.extend(owner.wire()),
            None => self.octets.extend([0xc0, HEADER as u8]),
        }
        for part in [&kind.to_be_bytes()[..], &IN.to_be_bytes(), &ttl.to_be_bytes()] {
            self.octets.extend(part);
        }
        self.octets.extend((data.len() as u16).to_be_bytes());
        self.octets.extend(data);
        self.count(section as usize);
    }

    fn count(&mut self, at: usize) {
        let count = word(&self.octets, at).expect("the header is there") + 1;
        self.octets[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }

    /// Ends the answer; one that is longer than `limit` is cut to the question, and says so.
    pub fn finish(mut self, limit: usize) -> Vec<u8> {
        /// Octets of an OPT record without options.
        const OPT: usize = 11;
        let opt = if self.question.edns.is_some() { OPT } else { 0 };
        if self.octets.len() + opt > limit {
            self.octets.truncate(HEADER + self.question.section.len());
            self.octets[6..HEADER].fill(0);
            self.octets[2] |= (TRUNCATED >> 8) as u8;
        }
        if let Some(edns) = self.question.edns {
            let [size_high, size_low] = OUR_UDP.to_be_bytes();
            let extended = (self.code as u16 >> 4) as u8;
            let dnssec = if edns.dnssec { 0x80 } else { 0 };
            let opt = kind::OPT as u8;
            self.octets.extend([0, 0, opt, size_high, size_low, extended, 0, dnssec, 0, 0, 0]);
            self.count(10);
        }
        self.octets
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A question as a stub resolver would send it.
    pub(crate) fn query(name: &str, kind: u16, class: u16, edns: Option<u16>) -> Vec<u8> {
        let mut octets = vec![0xab, 0xcd, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            octets.push(label.len() as u8);
            octets.extend(label.as_bytes());
        }
        octets.push(0);
        octets.extend(kind.to_be_bytes());
        octets.extend(class.to_be_bytes());
        if let Some(size) = edns {
            octets.extend([0, 0, 41]);
            octets.extend(size.to_be_bytes());
            octets.extend([0, 0, 0x80, 0, 0, 0]);
        }
        octets
    }

    #[test]
    fn a_question_with_edns() {
        let octets = query("Web.lab.internal", kind::AAAA, IN, Some(4096));
        let question = Question::parse(&octets).unwrap();

        assert_eq!((question.id, question.kind, question.class), (0xabcd, kind::AAAA, IN));
        assert_eq!(question.name.to_string(), "web.lab.internal");
        assert_eq!(question.section[1..4], *b"Web");
        assert_eq!(question.edns, Some(Edns { size: 4096, version: 0, dnssec: true }));
        assert_eq!(question.udp_limit(1472), 1472);
        assert_eq!(Question::parse(&query("a", kind::A, IN, None)).unwrap().udp_limit(1472), 512);
    }

    #[test]
    fn answers_to_what_is_no_question() {
        let good = query("a", kind::A, IN, None);
        let with = |at: usize, octet: u8| {
            let mut octets = good.clone();
            octets[at] = octet;
            Question::parse(&octets).map(drop)
        };
        let answered = |flags: [u8; 2]| {
            let octets = [&[0xab, 0xcd][..], &flags, &[0; 8]].concat();
            Err(NoQuestion::Answered(octets))
        };
        assert_eq!(with(0, 0), Ok(()));
        assert_eq!(with(2, 0x81), Err(NoQuestion::Ignored), "an answer");
        assert_eq!(with(2, 0x29), answered([0xa9, 4]), "an update");
        assert_eq!(with(5, 2), answered([0x81, 1]));
        assert_eq!(with(5, 0), answered([0x81, 1]));
        assert_eq!(with(12, 0xc0), answered([0x81, 1]));
        for len in 0..good.len() {
            let expected = if len < HEADER { Err(NoQuestion::Ignored) } else { answered([0x81, 1]) };
            assert_eq!(Question::parse(&good[..len]).map(drop), expected, "{len}");
        }
    }

    #[test]
    fn answers_to_the_octet_and_cut() {
        let octets = query("a", kind::A, IN, Some(512));
        let question = Question::parse(&octets).unwrap();
        let write = |limit| {
            let mut answer = Answer::new(&question, Code::NoError, true);
            answer.push(Section::Answer, None, kind::A, 5, &[10, 213, 5, 1]);
            answer.finish(limit)
        };
        let opt = [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0];
        let expected = [
            &[0xab, 0xcd, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 1, 1, b'a', 0, 0, 1, 0, 1][..],
            &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 213, 5, 1],
            &opt,
        ];
        assert_eq!(write(512), expected.concat());
        assert_eq!(write(expected.concat().len()), expected.concat());
        let cut = [&[0xab, 0xcd, 0x87, 0x80, 0, 1, 0, 0, 0, 0, 0, 1, 1, b'a', 0, 0, 1, 0, 1][..], &opt];
        assert_eq!(write(expected.concat().len() - 1), cut.concat());
        assert_eq!(question.answer(Code::BadVersion)[19 + 5..19 + 7], [1, 0]);
        assert_eq!(question.fit(write(512), 45)[2..8], [0x87, 0x80, 0, 1, 0, 0]);
        assert_eq!(question.fit(write(512), 512), write(512));
    }

    #[test]
    fn addresses_in_answers() {
        let octets = query("a", kind::A, IN, None);
        let question = Question::parse(&octets).unwrap();
        let mut answer = Answer::new(&question, Code::NoError, false);
        let other = Name::parse("cdn.example").unwrap();
        answer.push(Section::Answer, None, 5, 9, other.wire());
        answer.push(Section::Answer, Some(&other), kind::A, 300, &[203, 0, 113, 7]);
        answer.push(Section::Answer, Some(&other), kind::AAAA, 2, &[1; 16]);
        answer.push(Section::Answer, Some(&other), kind::A, 2, &[1; 3]);
        answer.push(Section::Authority, Some(&other), kind::A, 2, &[1; 4]);
        let message = answer.finish(512);

        let expected = [([203, 0, 113, 7].into(), 300), ([1; 16].into(), 2)];
        assert_eq!(question.addresses(&message), expected);
        assert!(question.is_answered_by(0xabcd, &message) && !question.is_answered_by(1, &message));
        for len in 0..message.len() {
            assert!(question.addresses(&message[..len]).len() <= 2, "{len}");
        }
    }
}
