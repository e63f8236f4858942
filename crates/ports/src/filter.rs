//! Filters of ports: rules in order, of which the first that matches a frame decides.
//!
//! Theory of operation. The rules of a port are one filter of its link, so they see each frame that it receives before
//! the network does, and each frame for its guest before that is brought into the form that the medium takes: of a
//! frame that stands for many segments they judge the headers. Other rules are another filter, which is attached before
//! the one that it replaces is detached, so that no frame passes unjudged; a rule that is in both goes on counting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vmlan_frame::{Context, Direction, DropReason, Frame};
use vmlan_link::{Filter, FilterId, FilterOptions, Link, Verdict};

use crate::wire::on_wire;
use crate::{FilterRule, FilterSource};

/// The rules of one port, on its link.
pub struct Rules {
    link: Link,
    attached: Option<FilterId>,
    list: Arc<List>,
}

/// The filter.
struct List {
    rules: Vec<Rule>,
}

struct Rule {
    rule: FilterRule,
    seen: Arc<Seen>,
}

/// The count of a rule's matches; each worker counts on cache lines of its own.
struct Seen {
    shards: Box<[Shard]>,
}

#[derive(Default)]
#[repr(align(128))]
struct Shard {
    frames: AtomicU64,
    octets: AtomicU64,
}

impl Rules {
    /// No rules yet.
    pub fn new(link: Link) -> Rules {
        Rules { link, attached: None, list: Arc::new(List { rules: Vec::new() }) }
    }

    /// Makes these the rules.
    ///
    /// # Errors
    /// The link has left, or has as many filters as it can have.
    pub fn set(&mut self, rules: &[FilterRule]) -> Result<(), vmlan_link::Error> {
        if rules.iter().eq(self.list.rules.iter().map(|rule| &rule.rule)) {
            return Ok(());
        }
        let workers = self.link.counters().workers();
        let mut before: Vec<_> = self.list.rules.iter().collect();
        let rules = rules.iter().map(|rule| {
            let same = before.iter().position(|other| other.rule == *rule);
            let seen = same.map_or_else(|| Seen::new(workers), |at| before.remove(at).seen.clone());
            Rule { rule: rule.clone(), seen }
        });
        let list = Arc::new(List { rules: rules.collect() });
        let attached = match list.rules.is_empty() {
            true => None,
            false => {
                let options = FilterOptions { tagged: true, ..FilterOptions::new("rules") };
                Some(self.link.attach_filter(options, list.clone())?)
            }
        };
        self.list = list;
        if let Some(old) = std::mem::replace(&mut self.attached, attached) {
            self.link.detach_filter(old)?;
        }
        Ok(())
    }

    /// The rules and what they matched, in their order.
    pub fn report(&self, network: &str, port: &str) -> Vec<vmlan_api::Filter> {
        let rules = (1..).zip(&self.list.rules);
        let report = |(number, Rule { rule, seen }): (u64, &Rule)| {
            let (expression, program) = match &rule.source {
                FilterSource::Expression(text) => (Some(text.clone()), None),
                FilterSource::Program(path) => (None, Some(path.display().to_string())),
            };
            let (frames, octets) = seen.sums();
            vmlan_api::Filter {
                network: network.to_owned(),
                port: port.to_owned(),
                number,
                direction: rule.direction,
                action: rule.action,
                expression,
                program,
                frames,
                octets,
            }
        };
        rules.map(report).collect()
    }
}

impl Seen {
    fn new(workers: usize) -> Arc<Seen> {
        Arc::new(Seen { shards: (0..workers.max(1)).map(|_| Shard::default()).collect() })
    }

    fn count(&self, worker: usize, frame: &Frame) {
        let shard = &self.shards[worker % self.shards.len()];
        shard.frames.fetch_add(1, Relaxed);
        shard.octets.fetch_add(frame.wire_len() as u64, Relaxed);
    }

    fn sums(&self) -> (u64, u64) {
        let sum = |counter: fn(&Shard) -> &AtomicU64| {
            self.shards.iter().map(|shard| counter(shard).load(Relaxed)).sum()
        };
        (sum(|shard| &shard.frames), sum(|shard| &shard.octets))
    }
}

impl List {
    fn judge(&self, cx: &Context<'_>, direction: Direction, frame: &Frame) -> Verdict {
        let is_meant = |rule: &&Rule| match rule.rule.direction {
            vmlan_api::FilterDirection::In => direction == Direction::Ingress,
            vmlan_api::FilterDirection::Out => direction == Direction::Egress,
            vmlan_api::FilterDirection::Both => true,
        };
        let found = on_wire(frame, |head, rest| {
            self.rules.iter().filter(is_meant).find(|rule| rule.rule.program.run_split(head, rest) > 0)
        });
        let Some(rule) = found else { return Verdict::Continue };
        rule.seen.count(cx.worker, frame);
        match rule.rule.action {
            vmlan_api::FilterAction::Pass => Verdict::Continue,
            vmlan_api::FilterAction::Drop => Verdict::Drop(match direction {
                Direction::Ingress => DropReason::InputFilter,
                Direction::Egress => DropReason::OutputFilter,
            }),
        }
    }
}

impl Filter for List {
    fn input(&self, cx: &Context<'_>, frame: &mut Frame) -> Verdict {
        self.judge(cx, Direction::Ingress, frame)
    }

    fn output(&self, cx: &Context<'_>, frame: &mut Frame) -> Verdict {
        self.judge(cx, Direction::Egress, frame)
    }
}
