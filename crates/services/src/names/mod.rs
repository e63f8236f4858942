//! The names of a network's guests, and what becomes of a question.
//!
//! A zone has the names of ports, of the gateway and the host, and those that clients told by DHCP where no port has
//! the name. Its records are made when they are asked for, of [`Ports`] and [`Leases`]; nothing is kept. Every other
//! question is for a resolver of the host, unless an egress list says otherwise.

pub mod message;
mod policy;
#[cfg(test)]
mod tests;
mod zone;

use vmlan_frame::Instant;

pub use message::{Code, NoQuestion, Question};
pub use policy::{Learned, learned, may_ask};
pub use zone::Zone;

use crate::{Client, Leases, Name, Ports, Settings};

/// The consequence of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It gets no answer.
    Ignore,
    /// It gets this answer.
    Answer(Vec<u8>),
    /// A resolver of the host is to be asked, with the question unchanged but for its number.
    Ask(Question),
}

/// True if text can be a label of a name as it is.
pub fn is_label(text: &str) -> bool {
    !text.contains('.') && Name::parse(text).is_ok()
}

/// Decides on a question. Answers have at most `room` octets, and what the question says; `None` is for TCP.
pub fn decide(
    (settings, ports, leases): (&Settings, &Ports, &Leases),
    client: Client,
    octets: &[u8],
    room: Option<usize>,
    now: Instant,
) -> Verdict {
    let Some(dns) = &settings.dns else { return Verdict::Ignore };
    let question = match Question::parse(octets) {
        Ok(question) => question,
        Err(NoQuestion::Ignored) => return Verdict::Ignore,
        Err(NoQuestion::Answered(answer)) => return Verdict::Answer(answer),
    };
    if question.class == message::IN {
        let zone = Zone { settings, dns, ports, leases, now };
        let limit = room.map_or(usize::from(u16::MAX), |room| question.udp_limit(room));
        if let Some(answer) = zone.answer(&question, limit) {
            return Verdict::Answer(answer);
        }
    }
    // RFC 6762 section 22.1: such names are for multicast alone.
    let local = Name::parse("local").expect("it is a name");
    if question.name.within(&local).is_some() || !may_ask(settings, ports, client, &question.name) {
        return Verdict::Answer(question.answer(Code::Refused));
    }
    Verdict::Ask(question)
}

/// Makes the answer of a resolver fit for the client: cut where it is too long, and without AAAA records where these
/// are not wanted. Its number is the question's.
pub fn pass_on(
    settings: &Settings,
    question: &Question,
    mut answer: Vec<u8>,
    room: Option<usize>,
) -> Vec<u8> {
    let filtered = settings.subnet6.is_none() && settings.dns.as_ref().is_some_and(|dns| dns.filter_aaaa);
    if filtered && question.kind == message::kind::AAAA && !question.addresses(&answer).is_empty() {
        return question.answer(Code::NoError);
    }
    if let Some(id) = answer.get_mut(..2) {
        id.copy_from_slice(&question.id.to_be_bytes());
    }
    match room {
        Some(room) => question.fit(answer, question.udp_limit(room)),
        None => answer,
    }
}
