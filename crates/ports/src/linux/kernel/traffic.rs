//! Traffic control: the classifying hooks of an interface, and the filters on them (tc(8), tc-bpf(8)).

use std::os::fd::{AsFd, AsRawFd};

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};
use rustix::io::Errno;
use vmlan_sys::ebpf::Hook;

use super::{Kernel, KernelError, unless_gone};

const CLSACT: &str = "clsact";
/// `ETH_P_ALL`: filters see frames of every protocol.
const EVERY_PROTOCOL: u16 = 3;

/// A filter to be put on a hook, which says itself what becomes of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule<'a> {
    pub(crate) hook: Hook,
    /// Lower numbers are asked first.
    pub(crate) priority: u16,
    /// As it is listed.
    pub(crate) name: &'a str,
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

/// Where filters of a hook hang.
fn parent(hook: Hook) -> TcHandle {
    let minor = match hook {
        Hook::Ingress => TcHandle::MIN_INGRESS,
        Hook::Egress => TcHandle::MIN_EGRESS,
    };
    TcHandle { major: TcHandle::CLSACT.major, minor }
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
        for hook in Hook::ALL {
            let mut message = TcMessage::with_index(index as i32);
            message.header.parent = parent(hook);
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

    /// Puts a filter on the interface, which is the program behind `classifier`, beside others of its kind that have
    /// the priority, or in the place of one of them.
    ///
    /// # Errors
    /// `EINVAL` where a filter of another kind has it.
    pub(crate) async fn put_filter(
        &self,
        index: u32,
        rule: Rule<'_>,
        instead_of: Option<&Filter>,
        classifier: impl AsFd,
    ) -> Result<(), KernelError> {
        let options = vec![
            TcFilterBpfOption::ProgFd(classifier.as_fd().as_raw_fd() as u32),
            TcFilterBpfOption::ProgName(rule.name.to_owned()),
            TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
        ];
        let mut message = TcMessage::with_index(index as i32);
        message.header.parent = parent(rule.hook);
        message.header.info = info(rule.priority, EVERY_PROTOCOL.to_be());
        let (handle, flag) = match instead_of {
            Some(filter) => (filter.handle, NLM_F_REPLACE),
            None => (0, NLM_F_EXCL),
        };
        message.header.handle = handle.into();
        message.attributes = vec![
            TcAttribute::Kind(TcFilterBpf::KIND.to_owned()),
            TcAttribute::Options(options.into_iter().map(TcOption::Bpf).collect()),
        ];
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | flag;
        let request = RouteNetlinkMessage::NewTrafficFilter(message);
        let what = format!("add the traffic filter {} with priority {}", rule.name, rule.priority);
        self.request(&what, request, flags).await.map(drop)
    }

    /// Takes a filter off the interface; nothing happens when it is gone.
    pub(crate) async fn delete_filter(&self, index: u32, filter: &Filter) -> Result<(), KernelError> {
        let mut message = TcMessage::with_index(index as i32);
        message.header.parent = parent(filter.hook);
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
