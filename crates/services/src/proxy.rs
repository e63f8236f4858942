//! Questions that wait for a resolver of the host.
//!
//! A question is put to the first server at once, to the next when that one fails or after two seconds, and given up
//! after five. Each time it has a number of its own and goes by a socket of its own, whose port the system chooses, so
//! that a stranger would have to guess both. An answer to any of these attempts is taken; then all of them end. The
//! caller has the sockets: it does what [`Proxy::poll_action`] says, and tells what comes back.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vmlan_frame::Instant;

use crate::Client;
use crate::names::{Code, Question};
use crate::rate::Rate;

/// Questions that wait at once, of all guests.
pub const MOST: usize = 1000;
/// Questions of one guest that wait at once.
pub const MOST_EACH: usize = 256;
/// Questions of one guest in a second.
const PER_SECOND: u32 = 200;
/// The time after which the next server is asked too.
const NEXT_SERVER: Duration = Duration::from_secs(2);
/// The time after which a question is given up.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Times that a question is asked.
const ATTEMPTS: usize = 3;

/// The sender of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    /// The guest.
    pub client: Client,
    /// Its address and port.
    pub from: SocketAddr,
    /// The gateway's address that it asked.
    pub to: IpAddr,
}

/// One sending of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The question's number here.
    pub question: u64,
    /// The number of the attempt.
    pub number: usize,
}

/// A thing for the caller to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a message to a server by a new socket, and tell what comes back.
    Ask {
        /// The attempt, by which it is told.
        attempt: Attempt,
        /// The server.
        server: SocketAddr,
        /// The message.
        message: Vec<u8>,
    },
    /// Close the sockets of a question.
    Close {
        /// The question's number.
        question: u64,
    },
    /// Give an answer to a guest; its number is the guest's already, but it may be too long.
    Answer {
        /// The guest.
        asker: Asker,
        /// The question.
        question: Question,
        /// The answer.
        message: Vec<u8>,
    },
}

#[derive(Debug)]
struct Waiting {
    asker: Asker,
    question: Question,
    octets: Vec<u8>,
    servers: Vec<SocketAddr>,
    /// Numbers of the messages of each attempt; none where the attempt failed.
    ids: Vec<Option<u16>>,
    /// The last answer that says that a server failed.
    failure: Option<Vec<u8>>,
    next_at: Instant,
    ends_at: Instant,
}

/// The questions that wait.
#[derive(Debug)]
pub struct Proxy {
    waiting: BTreeMap<u64, Waiting>,
    known: BTreeMap<(Asker, u16), u64>,
    each: BTreeMap<u16, usize>,
    actions: VecDeque<Action>,
    rate: Rate,
    next: u64,
}

impl Default for Proxy {
    fn default() -> Proxy {
        Proxy {
            waiting: BTreeMap::new(),
            known: BTreeMap::new(),
            each: BTreeMap::new(),
            actions: VecDeque::new(),
            rate: Rate::per_second(PER_SECOND),
            next: 0,
        }
    }
}

impl Proxy {
    /// Takes a question, whose octets are sent on as they are but for the number. `random` makes unpredictable numbers.
    /// One that waits already is not asked again; one too many of a guest in a second is dropped.
    pub fn ask(
        &mut self,
        asker: Asker,
        question: Question,
        octets: &[u8],
        servers: &[SocketAddr],
        now: Instant,
        random: &mut dyn FnMut() -> u16,
    ) {
        let key = (asker, question.id);
        let same = |number: &u64| self.waiting.get(number).is_some_and(|known| known.octets == octets);
        if self.known.get(&key).is_some_and(same) || !self.rate.take(asker.client.ingress, now) {
            return;
        }
        let each = self.each.get(&asker.client.ingress).copied().unwrap_or(0);
        if servers.is_empty() || self.waiting.len() >= MOST || each >= MOST_EACH {
            let message = question.answer(Code::ServerFailure);
            return self.actions.push_back(Action::Answer { asker, question, message });
        }
        let number = self.next;
        self.next += 1;
        self.known.insert(key, number);
        *self.each.entry(asker.client.ingress).or_default() += 1;
        let waiting = Waiting {
            asker,
            question,
            octets: octets.to_vec(),
            servers: servers[..servers.len().min(ATTEMPTS)].to_vec(),
            ids: Vec::new(),
            failure: None,
            next_at: now,
            ends_at: now + PATIENCE,
        };
        self.waiting.insert(number, waiting);
        self.send(number, now, random);
    }

    /// Counts a question that the caller asks by another way, by TCP; false if it is one too many of a port in a
    /// second.
    pub fn admit(&mut self, ingress: u16, now: Instant) -> bool {
        self.rate.take(ingress, now)
    }

    /// Takes octets that came back by the socket of an attempt. What is no answer to it is ignored.
    pub fn received(
        &mut self,
        attempt: Attempt,
        message: &[u8],
        now: Instant,
        random: &mut dyn FnMut() -> u16,
    ) {
        let Some(waiting) = self.waiting.get_mut(&attempt.question) else { return };
        let Some(&Some(id)) = waiting.ids.get(attempt.number) else { return };
        if waiting.question.is_failure(id, message) {
            if waiting.question.is_answered_by(id, message) {
                waiting.failure = Some(message.to_vec());
            }
            self.failed(attempt, now, random);
        } else if waiting.question.is_answered_by(id, message) {
            self.finish(attempt.question, Some(message.to_vec()));
        }
    }

    /// Takes that an attempt failed: it could not be sent, or nobody listens there.
    pub fn failed(&mut self, attempt: Attempt, now: Instant, random: &mut dyn FnMut() -> u16) {
        let Some(waiting) = self.waiting.get_mut(&attempt.question) else { return };
        let Some(id) = waiting.ids.get_mut(attempt.number) else { return };
        *id = None;
        if waiting.ids.len() < waiting.servers.len() {
            // Attempts that have been overtaken do not ask the next server again.
            if attempt.number + 1 == waiting.ids.len() {
                self.send(attempt.question, now, random);
            }
        } else if waiting.ids.iter().all(Option::is_none) {
            self.finish(attempt.question, None);
        }
    }

    /// Does what is due.
    pub fn expire(&mut self, now: Instant, random: &mut dyn FnMut() -> u16) {
        let due = self.waiting.iter().filter(|(_, waiting)| waiting.next_at.min(waiting.ends_at) <= now);
        for number in Vec::from_iter(due.map(|(number, _)| *number)) {
            if self.waiting[&number].ends_at <= now {
                self.finish(number, None);
            } else {
                self.send(number, now, random);
            }
        }
    }

    /// The time at which [`Proxy::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.next_at.min(waiting.ends_at)).min()
    }

    /// A thing for the caller to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The number of questions that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if no question waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets the questions of a port.
    pub fn forget(&mut self, ingress: u16) {
        self.rate.forget(ingress);
        let theirs = self.waiting.iter().filter(|(_, waiting)| waiting.asker.client.ingress == ingress);
        for number in Vec::from_iter(theirs.map(|(number, _)| *number)) {
            self.remove(number);
        }
    }

    fn send(&mut self, number: u64, now: Instant, random: &mut dyn FnMut() -> u16) {
        let waiting = self.waiting.get_mut(&number).expect("the caller has seen it");
        let id = random();
        let attempt = Attempt { question: number, number: waiting.ids.len() };
        let server = waiting.servers[attempt.number % waiting.servers.len()];
        waiting.ids.push(Some(id));
        let is_last = waiting.ids.len() == ATTEMPTS;
        waiting.next_at = if is_last { waiting.ends_at } else { now + NEXT_SERVER };
        let mut message = waiting.octets.clone();
        message[..2].copy_from_slice(&id.to_be_bytes());
        self.actions.push_back(Action::Ask { attempt, server, message });
    }

    fn finish(&mut self, number: u64, answer: Option<Vec<u8>>) {
        let Some(waiting) = self.remove(number) else { return };
        let (asker, question) = (waiting.asker, waiting.question);
        let mut message = answer.or(waiting.failure).unwrap_or_else(|| question.answer(Code::ServerFailure));
        message[..2].copy_from_slice(&question.id.to_be_bytes());
        self.actions.push_back(Action::Answer { asker, question, message });
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        let key = (waiting.asker, waiting.question.id);
        if self.known.get(&key) == Some(&number) {
            self.known.remove(&key);
        }
        let ingress = waiting.asker.client.ingress;
        if let Some(count) = self.each.get_mut(&ingress) {
            *count -= 1;
            if *count == 0 {
                self.each.remove(&ingress);
            }
        }
        self.actions.push_back(Action::Close { question: number });
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use vmlan_frame::MacAddr;

    use super::*;
    use crate::names::message::tests::query;
    use crate::names::message::{Answer, IN, Section, kind};

    const START: Instant = Instant::from_secs(1);

    struct Net {
        proxy: Proxy,
        servers: Vec<SocketAddr>,
        random: u16,
        now: Instant,
    }

    impl Net {
        fn new(servers: u8) -> Net {
            let servers = (1..=servers).map(|number| ([192, 0, 2, number], 53).into()).collect();
            Net { proxy: Proxy::default(), servers, random: 100, now: START }
        }

        fn ask(&mut self, ingress: u16, port: u16, octets: &[u8]) {
            let client = Client { ingress, mac: MacAddr([2, 0, 0, 0, 0, ingress as u8]) };
            let asker = Asker { client, from: ([10, 213, 5, 16], port).into(), to: [10, 213, 5, 1].into() };
            let question = Question::parse(octets).unwrap();
            self.run(|net, random| {
                net.proxy.ask(asker, question, octets, &net.servers, net.now, random);
            });
        }

        fn run(&mut self, call: impl FnOnce(&mut Net, &mut dyn FnMut() -> u16)) {
            let mut number = self.random;
            call(self, &mut || {
                number += 1;
                number
            });
            self.random = number;
        }

        fn receive(&mut self, attempt: Attempt, message: &[u8]) {
            self.run(|net, random| net.proxy.received(attempt, message, net.now, random));
        }

        fn fail(&mut self, attempt: Attempt) {
            self.run(|net, random| net.proxy.failed(attempt, net.now, random));
        }

        fn pass(&mut self, milliseconds: u64) {
            self.now = self.now + Duration::from_millis(milliseconds);
            self.run(|net, random| net.proxy.expire(net.now, random));
        }

        /// The server's number and the message of what is to be asked next.
        fn asked(&mut self) -> (Attempt, u8, Vec<u8>) {
            match self.proxy.poll_action() {
                Some(Action::Ask { attempt, server: SocketAddr::V4(server), message }) => {
                    (attempt, server.ip().octets()[3], message)
                }
                other => panic!("{other:?}"),
            }
        }

        fn answered(&mut self) -> Vec<u8> {
            loop {
                match self.proxy.poll_action() {
                    Some(Action::Answer { message, .. }) => return message,
                    Some(Action::Close { .. }) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn answer_to(octets: &[u8], code: Code) -> Vec<u8> {
        let question = Question::parse(octets).unwrap();
        let mut answer = Answer::new(&question, code, false);
        if code == Code::NoError {
            answer.push(Section::Answer, None, kind::A, 9, &[192, 0, 2, 99]);
        }
        answer.finish(1000)
    }

    fn one() -> Vec<u8> {
        query("example.org", kind::A, IN, Some(1232))
    }

    #[test]
    fn a_question_goes_unchanged_but_for_its_number() {
        let mut net = Net::new(2);
        net.ask(1, 4000, &one());
        let (attempt, server, message) = net.asked();
        assert_eq!((server, &message[..2], &message[2..]), (1, &[0, 101][..], &one()[2..]));
        net.ask(1, 4000, &one());
        assert_eq!(net.proxy.poll_action(), None, "asked again while it waits");

        let answer = answer_to(&message, Code::NoError);
        let mut strange = answer.clone();
        strange[1] ^= 1;
        net.receive(attempt, &strange);
        net.receive(attempt, &answer_to(&query("example.net", kind::A, IN, None), Code::NoError));
        net.receive(attempt, &message);
        net.receive(attempt, &[]);
        assert_eq!(net.proxy.poll_action(), None, "no answers to the question");
        net.receive(attempt, &answer);
        assert_eq!(net.proxy.poll_action(), Some(Action::Close { question: 0 }));
        let passed = net.answered();
        assert_eq!((&passed[..2], &passed[2..]), (&[0xab, 0xcd][..], &answer[2..]));
        net.receive(attempt, &answer);
        assert!(net.proxy.poll_action().is_none() && net.proxy.is_empty());
    }

    #[test]
    fn the_next_server_after_two_seconds_and_the_first_may_answer_still() {
        let mut net = Net::new(2);
        net.ask(1, 4000, &one());
        let (first, _, message) = net.asked();
        net.pass(1999);
        assert_eq!(net.proxy.poll_action(), None);
        net.pass(1);
        assert_eq!(net.asked().1, 2);
        net.receive(first, &answer_to(&message, Code::NoError));
        assert_eq!(net.answered()[3] & 0xf, 0);
        assert_eq!(net.proxy.next_deadline(), None);
    }

    #[test]
    fn the_next_server_after_a_failure_and_the_failure_is_passed_on() {
        let mut net = Net::new(2);
        net.ask(1, 4000, &one());
        let (first, _, message) = net.asked();
        net.receive(first, &answer_to(&message, Code::ServerFailure));
        let (second, server, message) = net.asked();
        assert_eq!(server, 2);
        net.receive(second, &answer_to(&message, Code::Refused));
        assert_eq!(net.answered()[3] & 0xf, Code::Refused as u8);

        let mut net = Net::new(1);
        net.ask(1, 4000, &one());
        let (first, ..) = net.asked();
        net.fail(first);
        assert_eq!(net.answered()[3] & 0xf, Code::ServerFailure as u8);
    }

    #[test]
    fn case_58_without_servers_the_answer_is_failure_at_once() {
        let mut net = Net::new(0);
        net.ask(1, 4000, &one());
        assert_eq!(net.answered()[..4], [0xab, 0xcd, 0x81, 0x82]);
    }

    #[test]
    fn case_59_a_dead_server_and_a_thousand_waiting() {
        let mut net = Net::new(1);
        for ingress in 0..8_u16 {
            for port in 0..150 {
                net.ask(ingress, port, &one());
            }
        }
        assert_eq!(net.proxy.len(), MOST);
        let actions = Vec::from_iter(std::iter::from_fn(|| net.proxy.poll_action()));
        let refused = actions.iter().filter(|action| matches!(action, Action::Answer { .. })).count();
        assert_eq!(refused, 200);
        net.pass(2000);
        net.pass(2000);
        net.pass(1000);
        assert!(net.proxy.is_empty());
        let actions = Vec::from_iter(std::iter::from_fn(|| net.proxy.poll_action()));
        let answers = actions.iter().filter(|action| matches!(action, Action::Answer { .. })).count();
        let asked = actions.iter().filter(|action| matches!(action, Action::Ask { .. })).count();
        assert_eq!((answers, asked), (1000, 2000));
    }

    #[test]
    fn one_guest_has_its_part_of_places_and_of_a_second() {
        let mut net = Net::new(1);
        for port in 0..1000 {
            net.ask(1, port, &one());
        }
        assert_eq!(net.proxy.len(), 200);
        net.pass(1000);
        for port in 1000..2000 {
            net.ask(1, port, &one());
        }
        assert_eq!(net.proxy.len(), MOST_EACH);
        net.proxy.forget(1);
        assert!(net.proxy.is_empty());
    }
}
