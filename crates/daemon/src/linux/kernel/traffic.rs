//! Traffic control: the classifying hooks of an interface, and the filters on them (tc(8), tc-bpf(8), tc-mirred(8)).

use std::os::fd::{AsFd, AsRawFd};

use rtnetlink::packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption, TcActionType,
    TcAttribute, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption,
};
use rustix::io::Errno;

use super::{Kernel, KernelError, unless_gone};

const CLSACT: &str = "clsact";
/// `TCA_BPF_ACT`, for which the crate has no name.
const BPF_ACTIONS: u16 = 1;
/// `ETH_P_ALL`: filters see frames of every protocol.
const EVERY_PROTOCOL: u16 = 3;
/// Marks an attribute that holds attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;

/// A hook of an interface: where frames come in, or go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Ingress,
    Egress,
}

/// What happens to a frame that a filter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The interface with this index sends it, and nobody else sees it.
    Redirect(u32),
    /// The interface with this index receives it, and nobody else sees it.
    Receive(u32),
    /// The interface with this index sends a copy; the frame goes on to the next filter.
    Mirror(u32),
}

/// A filter to be put on a hook.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule<'a> {
    pub(crate) hook: Hook,
    /// Lower numbers are asked first.
    pub(crate) priority: u16,
    /// As it is listed.
    pub(crate) name: &'a str,
    pub(crate) then: Then,
}

/// A filter that is on a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) hook: Hook,
    pub(crate) priority: u16,
    pub(crate) handle: u32,
    /// The kind of classifier.
    pub(crate) kind: String,
    /// The name that a `bpf` classifier was given.
    pub(crate) name: Option<String>,
    protocol: u16,
}

impl Hook {
    pub(crate) const BOTH: [Hook; 2] = [Hook::Ingress, Hook::Egress];

    fn parent(self) -> TcHandle {
        let minor = match self {
            Hook::Ingress => TcHandle::MIN_INGRESS,
            Hook::Egress => TcHandle::MIN_EGRESS,
        };
        TcHandle { major: TcHandle::CLSACT.major, minor }
    }
}

impl Kernel {
    /// Makes sure that an interface has the classifying hooks; answers whether it had none.
    ///
    /// # Errors
    /// `EEXIST` where an `ingress` qdisc is in the place of `clsact`; else what the kernel says, here and below.
    pub(crate) async fn add_hooks(&self, index: u32) -> Result<bool, KernelError> {
        if self.has_hooks(index).await? {
            return Ok(false);
        }
        let mut message = TcMessage::with_index(index as i32);
        message.header.parent = TcHandle::CLSACT;
        message.header.handle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
        message.attributes.push(TcAttribute::Kind(CLSACT.to_owned()));
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let request = RouteNetlinkMessage::NewQueueDiscipline(message);
        self.request("put a clsact qdisc on the interface", request, flags).await?;
        Ok(true)
    }

    async fn has_hooks(&self, index: u32) -> Result<bool, KernelError> {
        let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::with_index(index as i32));
        let found = self.request("list the qdiscs", request, NLM_F_REQUEST | NLM_F_DUMP).await?;
        Ok(found.iter().any(|message| match message {
            RouteNetlinkMessage::NewQueueDiscipline(message) => {
                message.header.index == index as i32
                    && message.attributes.contains(&TcAttribute::Kind(CLSACT.to_owned()))
            }
            _ => false,
        }))
    }

    /// Takes the classifying hooks off an interface, with every filter.
    pub(crate) async fn delete_hooks(&self, index: u32) -> Result<(), KernelError> {
        let mut message = TcMessage::with_index(index as i32);
        message.header.parent = TcHandle::CLSACT;
        message.header.handle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
        message.attributes.push(TcAttribute::Kind(CLSACT.to_owned()));
        let request = RouteNetlinkMessage::DelQueueDiscipline(message);
        let done = self.request("remove the clsact qdisc", request, NLM_F_REQUEST | NLM_F_ACK).await;
        match done.map(drop) {
            // There is none.
            Err(error) if error.is(Errno::INVAL) => Ok(()),
            done => unless_gone(done),
        }
    }

    /// The filters on both hooks of an interface; none where it has no hooks.
    pub(crate) async fn filters(&self, index: u32) -> Result<Vec<Filter>, KernelError> {
        let mut filters = Vec::new();
        for hook in Hook::BOTH {
            let mut message = TcMessage::with_index(index as i32);
            message.header.parent = hook.parent();
            let request = RouteNetlinkMessage::GetTrafficFilter(message);
            let found = self.request("list the filters", request, NLM_F_REQUEST | NLM_F_DUMP).await;
            let found = match found {
                // Without hooks there is nothing to list.
                Err(error) if error.is(Errno::INVAL) || error.is(Errno::OPNOTSUPP) => continue,
                found => found?,
            };
            filters.extend(found.iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewTrafficFilter(message) => Filter::parse(hook, message),
                _ => None,
            }));
        }
        Ok(filters)
    }

    /// Puts a filter on the interface, whose classifier is the program behind `classifier`.
    ///
    /// # Errors
    /// `EINVAL` where a filter of another kind has the priority.
    pub(crate) async fn add_filter(
        &self,
        index: u32,
        rule: Rule<'_>,
        classifier: impl AsFd,
    ) -> Result<(), KernelError> {
        let options = vec![
            TcFilterBpfOption::ProgFd(classifier.as_fd().as_raw_fd() as u32),
            TcFilterBpfOption::ProgName(rule.name.to_owned()),
            TcFilterBpfOption::Other(DefaultNla::new(BPF_ACTIONS | NESTED, actions(rule.then))),
        ];
        let mut message = TcMessage::with_index(index as i32);
        message.header.parent = rule.hook.parent();
        message.header.info = info(rule.priority, EVERY_PROTOCOL.to_be());
        message.attributes = vec![
            TcAttribute::Kind(TcFilterBpf::KIND.to_owned()),
            TcAttribute::Options(options.into_iter().map(TcOption::Bpf).collect()),
        ];
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let request = RouteNetlinkMessage::NewTrafficFilter(message);
        let what = format!("add the traffic filter {} with priority {}", rule.name, rule.priority);
        self.request(&what, request, flags).await.map(drop)
    }

    /// Takes a filter off the interface; nothing happens when it is gone.
    pub(crate) async fn delete_filter(&self, index: u32, filter: &Filter) -> Result<(), KernelError> {
        let mut message = TcMessage::with_index(index as i32);
        message.header.parent = filter.hook.parent();
        message.header.info = info(filter.priority, filter.protocol);
        message.header.handle = filter.handle.into();
        message.attributes.push(TcAttribute::Kind(filter.kind.clone()));
        let request = RouteNetlinkMessage::DelTrafficFilter(message);
        let what = format!("remove the traffic filter with priority {}", filter.priority);
        unless_gone(self.request(&what, request, NLM_F_REQUEST | NLM_F_ACK).await.map(drop))
    }
}

impl Filter {
    fn parse(hook: Hook, message: &TcMessage) -> Option<Filter> {
        // Without a handle it is the head of a priority's list, not a filter.
        let handle = u32::from(message.header.handle);
        let mut filter = Filter {
            hook,
            priority: (message.header.info >> 16) as u16,
            protocol: message.header.info as u16,
            handle,
            kind: String::new(),
            name: None,
        };
        for attribute in &message.attributes {
            match attribute {
                TcAttribute::Kind(kind) => filter.kind.clone_from(kind),
                TcAttribute::Options(options) => {
                    filter.name = options.iter().find_map(|option| match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => Some(name.clone()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        (handle != 0).then_some(filter)
    }
}

/// Priority and protocol as they stand in one number; the protocol in the order of the wire.
fn info(priority: u16, protocol: u16) -> u32 {
    u32::from(priority) << 16 | u32::from(protocol)
}

/// The list of a filter's actions, which has one, as octets.
fn actions(then: Then) -> Vec<u8> {
    let mut mirror = TcMirror::default();
    (mirror.generic.action, mirror.eaction, mirror.ifindex) = match then {
        Then::Redirect(index) => (TcActionType::Stolen, TcMirrorActionType::EgressRedir, index),
        Then::Receive(index) => (TcActionType::Stolen, TcMirrorActionType::IngressRedir, index),
        // "Unspecified" asks the next filter; "pipe" would end here.
        Then::Mirror(index) => (TcActionType::Unspec, TcMirrorActionType::EgressMirror, index),
    };
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))]),
    ];
    let list = [action];
    let mut octets = vec![0; list.as_slice().buffer_len()];
    list.as_slice().emit(&mut octets);
    octets
}
