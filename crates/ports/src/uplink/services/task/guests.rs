//! The part of the task that answers guests.

use std::net::{IpAddr, Ipv6Addr};

use tokio::task::AbortHandle;
use vmlan_services::names::{self, Question, Verdict, learned, pass_on};
use vmlan_services::packet::{DHCP_SERVER, DHCP6_SERVER, DNS, Packet, udp_frame};
use vmlan_services::proxy::{Action, Asker};
use vmlan_services::ra::{self, Receiver};
use vmlan_services::{Client, dhcp4, dhcp6};

use super::super::channel::{HEADER, LONGEST};
use super::super::file::Answer;
use super::super::stream::{Decision, Request};
use super::super::{Notice, upstream};
use super::{BATCH, Task, wall};

impl Task {
    /// Takes what the data path has sent.
    pub(super) fn receive(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; HEADER + LONGEST + 1];
        for _ in 0..BATCH {
            let Some((ingress, frame)) = self.channel.receive(&mut buffer)? else { break };
            match Packet::parse(frame) {
                Some(Packet::Udp { mac, addresses, from, to, payload }) => {
                    let client = Client { ingress, mac };
                    let (source, destination) = (addresses.source(), addresses.destination());
                    match (to, source) {
                        (DHCP_SERVER, IpAddr::V4(_)) => self.dhcp4(client, payload),
                        (DHCP6_SERVER, IpAddr::V6(source)) => self.dhcp6(client, source, payload),
                        (DNS, _) => {
                            let asker = Asker { client, from: (source, from).into(), to: destination };
                            self.question(asker, payload);
                        }
                        _ => self.count("no_service"),
                    }
                }
                Some(Packet::RouterSolicitation { mac, from }) => {
                    if self.solicitations.take(ingress, self.now()) {
                        let receiver = self.schedule.solicited(mac, from, self.now());
                        self.advertise(if receiver == Receiver::All { 0 } else { ingress }, receiver);
                    }
                }
                None => self.count("malformed"),
            }
        }
        Ok(())
    }

    pub(super) fn advertise(&mut self, ingress: u16, receiver: Receiver) {
        if let Some(frame) = ra::frame(&self.config.settings, self.way, receiver) {
            self.channel.send(ingress, &frame);
        }
    }

    fn dhcp4(&mut self, client: Client, message: &[u8]) {
        let (now, wall) = (self.now(), wall());
        let parts = (&self.config.settings, &self.ports, &mut self.leases);
        let outcome = match self.dhcp4.handle(parts, client, message, now, wall) {
            Ok(outcome) => outcome,
            Err(refusal) => return self.count(dhcp4_reason(refusal)),
        };
        // No state that a message makes ends before an offer does; looked at too early, nothing is done.
        let soonest = wall + vmlan_services::leases::OFFER;
        self.expiry = Some(self.expiry.map_or(soonest, |expiry| expiry.min(soonest)));
        outcome.events.into_iter().for_each(|event| self.happened(client.ingress, event));
        if let Some(address) = outcome.bound {
            (self.callbacks.bound)(client, address);
        }
        let answer = outcome.reply.and_then(|reply| reply.frame(&self.config.settings));
        let answer = answer.map(|frame| (client.ingress, frame));
        if outcome.binds {
            self.save(answer);
        } else if let Some((ingress, frame)) = answer {
            self.channel.send(ingress, &frame);
        }
    }

    /// Has the leases written; the answer is sent after that.
    pub(super) fn save(&mut self, answer: Option<Answer>) {
        if let Some((ingress, frame)) = self.file.changed(answer) {
            self.channel.send(ingress, &frame);
        }
        self.file.write(&self.leases);
    }

    pub(super) fn written(&mut self, result: std::io::Result<()>, answers: Vec<Answer>) {
        for (ingress, frame) in answers {
            self.channel.send(ingress, &frame);
        }
        let failed = result.is_err();
        if let Err(error) = result
            && !self.unwritten
        {
            self.tell(Notice::LeasesUnwritten(error.to_string()));
        }
        self.unwritten = failed;
    }

    fn dhcp6(&mut self, client: Client, source: Ipv6Addr, message: &[u8]) {
        if !source.is_unicast_link_local() {
            return self.count("dhcp6_not_link_local");
        }
        let now = self.now();
        match self.dhcp6.handle(&self.config.settings, &self.ports, client, message, now) {
            Ok(outcome) => {
                if let Some(event) = outcome.event {
                    self.happened(client.ingress, event);
                }
                let frame = dhcp6::frame(&self.config.settings, client, source, &outcome.message);
                if let Some(frame) = frame {
                    self.channel.send(client.ingress, &frame);
                }
            }
            Err(refusal) => self.count(dhcp6_reason(refusal)),
        }
    }

    /// Octets of the largest DNS message in one packet to an address.
    fn room(&self, to: IpAddr) -> usize {
        const UDP: usize = 8;
        let header = if to.is_ipv4() { 20 } else { 40 };
        usize::from(self.config.settings.mtu).min(LONGEST - 14) - header - UDP
    }

    fn decide(&mut self, client: Client, octets: &[u8], room: Option<usize>) -> Verdict {
        let now = self.now();
        if !self.questions.take(client.ingress, now) {
            self.count("dns_rate");
            return Verdict::Ignore;
        }
        names::decide((&self.config.settings, &self.ports, &self.leases), client, octets, room, now)
    }

    fn question(&mut self, asker: Asker, octets: &[u8]) {
        match self.decide(asker.client, octets, Some(self.room(asker.to))) {
            Verdict::Ignore => self.count("dns_ignored"),
            Verdict::Answer(answer) => self.answer(&asker, &answer),
            Verdict::Ask(question) => {
                let (now, servers) = (self.now(), self.servers());
                let random = &mut || self.random.next() as u16;
                self.proxy.ask(asker, question, octets, &servers, now, random);
                self.act();
            }
        }
    }

    fn answer(&mut self, asker: &Asker, message: &[u8]) {
        let settings = &self.config.settings;
        let addresses = (asker.to, asker.from.ip());
        let ports = (DNS, asker.from.port());
        if let Some(frame) = udp_frame(settings.mac, asker.client.mac, addresses, ports, message) {
            self.channel.send(asker.client.ingress, &frame);
        }
    }

    /// Does what the questions that wait want done.
    pub(super) fn act(&mut self) {
        while let Some(action) = self.proxy.poll_action() {
            match action {
                Action::Ask { attempt, server, message } => {
                    let task = upstream::ask(attempt, server, message, self.heard.clone());
                    let handle = self.attempts.spawn(task);
                    self.sockets.entry(attempt.question).or_default().push(handle);
                }
                Action::Close { question } => {
                    let handles = self.sockets.remove(&question).unwrap_or_default();
                    handles.iter().for_each(AbortHandle::abort);
                }
                Action::Answer { asker, question, message } => {
                    let room = Some(self.room(asker.to));
                    let message = self.pass_on(asker.client, &question, message, room);
                    self.answer(&asker, &message);
                }
            }
        }
    }

    /// Makes a resolver's answer fit for a guest, after the way to what it names is open.
    fn pass_on(&self, client: Client, question: &Question, answer: Vec<u8>, room: Option<usize>) -> Vec<u8> {
        let settings = &self.config.settings;
        let now = self.now();
        let open = learned(settings, &self.ports, client, question, &answer, now);
        open.into_iter().for_each(|learned| {
            let good_for = learned.until.since(now);
            (self.callbacks.learned)(learned, good_for);
        });
        pass_on(settings, question, answer, room)
    }

    pub(super) fn serve(&mut self, request: Request) {
        // A connection that is gone takes no answer.
        match request {
            Request::Decide(client, octets, reply) => {
                let decision = match self.decide(client, &octets, None) {
                    Verdict::Ignore => Decision::Close,
                    Verdict::Answer(answer) => Decision::Answer(answer),
                    Verdict::Ask(_) if !self.proxy.admit(client.ingress, self.now()) => Decision::Close,
                    Verdict::Ask(question) => {
                        Decision::Ask(question, self.servers(), self.random.next() as u16)
                    }
                };
                let _ = reply.send(decision);
            }
            Request::PassOn(client, question, answer, reply) => {
                let _ = reply.send(self.pass_on(client, &question, answer, None));
            }
        }
    }
}

fn dhcp4_reason(refusal: dhcp4::Refusal) -> &'static str {
    match refusal {
        dhcp4::Refusal::Malformed => "dhcp_malformed",
        dhcp4::Refusal::Bootp => "dhcp_bootp",
        dhcp4::Refusal::Relayed => "dhcp_relayed",
        dhcp4::Refusal::Reply => "dhcp_reply",
        dhcp4::Refusal::Hardware => "dhcp_hardware",
        dhcp4::Refusal::Rate => "dhcp_rate",
        dhcp4::Refusal::OtherServer => "dhcp_other_server",
        dhcp4::Refusal::NotTheirs => "dhcp_not_theirs",
        dhcp4::Refusal::NoAddress => "dhcp_no_address",
    }
}

fn dhcp6_reason(refusal: dhcp6::Refusal) -> &'static str {
    match refusal {
        dhcp6::Refusal::Malformed => "dhcp6_malformed",
        dhcp6::Refusal::Kind => "dhcp6_kind",
        dhcp6::Refusal::OtherServer => "dhcp6_other_server",
        dhcp6::Refusal::Rate => "dhcp6_rate",
        dhcp6::Refusal::Nothing => "dhcp6_nothing",
    }
}
