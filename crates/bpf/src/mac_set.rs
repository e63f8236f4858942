//! Programs that accept the frames of a set of MAC addresses.
//!
//! Theory of operation. An address is compared as the number of its first four octets, its high part, and that of its
//! last two, its low part. A binary search over the high parts leads to the few that remain, which are tried one after
//! the other; the one that matches leads to a search over its low parts.
//!
//! A branch skips at most 255 instructions, and one that reaches further costs a jump. So the search first goes down
//! to islands of at most 64 addresses, whose code is short enough for near branches only, with returns of their own.

use vmlan_frame::MacAddr;

use crate::{Address, BuildError, Builder, Label, Operand, Step, Test, ValidProgram, WHOLE_PACKET, Width};

/// The most addresses whose search surely has no far branch: about 3.3 instructions for each.
const ISLAND: usize = 64;
/// How many values are tried one after the other; one more level of the search costs as many comparisons.
const RUN: usize = 4;

const DESTINATION: u32 = 0;
const SOURCE: u32 = 6;
/// The group bit in an address's high part.
const GROUP: u32 = 0x0100_0000;

/// A program that accepts whole the Ethernet frames to a group (the group bit of octet 0) or to one of `macs`.
///
/// The order of `macs` does not matter, nor do duplicates. Any 1,000 addresses fit, and about 3,000 that have the first
/// four octets in common. A frame without destination is rejected.
///
/// # Errors
/// When there are too many addresses for a program.
pub fn destinations(macs: impl IntoIterator<Item = MacAddr>) -> Result<ValidProgram, BuildError> {
    let mut builder = Builder::new();
    let (group, station) = (builder.label(), builder.label());
    load_high(&mut builder, DESTINATION);
    builder.branch(Test::AnyBit, Operand::K(GROUP), group, station);
    builder.place(group);
    builder.answer(WHOLE_PACKET);
    builder.place(station);
    Search { builder, field: DESTINATION }.finish(macs)
}

/// A program that accepts whole the Ethernet frames from one of `macs`; else like [`destinations`].
///
/// # Errors
/// When there are too many addresses for a program.
pub fn sources(macs: impl IntoIterator<Item = MacAddr>) -> Result<ValidProgram, BuildError> {
    let mut builder = Builder::new();
    load_high(&mut builder, SOURCE);
    Search { builder, field: SOURCE }.finish(macs)
}

fn load_high(builder: &mut Builder, field: u32) {
    builder.step(Step::LoadPacket(Width::Word, Address::Absolute(field)));
}

fn high(mac: u64) -> u32 {
    (mac >> 16) as u32
}

fn low(mac: u64) -> u32 {
    mac as u32 & 0xffff
}

/// Emits a search with A as the address's high part.
struct Search {
    builder: Builder,
    /// Where the address begins in the frame.
    field: u32,
}

/// Where a search ends.
#[derive(Clone, Copy)]
struct Ends {
    found: Label,
    missing: Label,
}

impl Search {
    fn finish(mut self, macs: impl IntoIterator<Item = MacAddr>) -> Result<ValidProgram, BuildError> {
        let mut macs: Vec<u64> = macs.into_iter().map(MacAddr::to_u64).collect();
        macs.sort_unstable();
        macs.dedup();
        let groups: Vec<&[u64]> = macs.chunk_by(|&a, &b| high(a) == high(b)).collect();
        self.highs(&groups);
        self.builder.finish()
    }

    /// Emits the search over groups, each of addresses with the same high part; sorted.
    fn highs(&mut self, groups: &[&[u64]]) {
        let addresses: usize = groups.iter().map(|group| group.len()).sum();
        if addresses <= ISLAND {
            let ends = self.ends();
            self.island(groups, ends);
            self.returns(ends);
        } else if let [group] = groups {
            let (here, missing) = (self.builder.label(), self.builder.label());
            self.builder.branch(Test::Equal, Operand::K(high(group[0])), here, missing);
            self.builder.place(missing);
            self.builder.answer(0);
            self.builder.place(here);
            self.load_low();
            self.lows(group);
        } else {
            let (smaller, larger) = groups.split_at(groups.len() / 2);
            let from = self.fork(high(larger[0][0]));
            self.highs(smaller);
            self.builder.place(from);
            self.highs(larger);
        }
    }

    /// Emits the search over the low parts of addresses with the same high part, with A as the low part.
    fn lows(&mut self, group: &[u64]) {
        if group.len() <= ISLAND {
            let ends = self.ends();
            self.low_island(group, ends);
            self.returns(ends);
        } else {
            let (smaller, larger) = group.split_at((group.len() / 2).next_multiple_of(ISLAND));
            let from = self.fork(low(larger[0]));
            self.lows(smaller);
            self.builder.place(from);
            self.lows(larger);
        }
    }

    fn island(&mut self, groups: &[&[u64]], ends: Ends) {
        let arms: Vec<(u32, Label)> =
            groups.iter().map(|group| (high(group[0]), self.builder.label())).collect();
        self.arms(&arms, ends.missing);
        for (group, (_, label)) in groups.iter().zip(arms) {
            self.builder.place(label);
            self.load_low();
            self.low_island(group, ends);
        }
    }

    fn low_island(&mut self, group: &[u64], ends: Ends) {
        let arms: Vec<(u32, Label)> = group.iter().map(|&mac| (low(mac), ends.found)).collect();
        self.arms(&arms, ends.missing);
    }

    /// Emits branches from each value to its label, and to `missing` from all others; sorted by value.
    fn arms(&mut self, arms: &[(u32, Label)], missing: Label) {
        if arms.len() > RUN {
            let (smaller, larger) = arms.split_at((arms.len() / 2).next_multiple_of(RUN));
            let from = self.fork(larger[0].0);
            self.arms(smaller, missing);
            self.builder.place(from);
            self.arms(larger, missing);
        } else if let Some((last, others)) = arms.split_last() {
            for arm in others {
                let next = self.builder.label();
                self.arm(*arm, next);
                self.builder.place(next);
            }
            self.arm(*last, missing);
        } else {
            self.builder.jump(missing);
        }
    }

    fn arm(&mut self, (value, label): (u32, Label), otherwise: Label) {
        self.builder.branch(Test::Equal, Operand::K(value), label, otherwise);
    }

    /// Emits a branch that goes on when A is below `bound`, and else at the label that is returned.
    fn fork(&mut self, bound: u32) -> Label {
        let (below, from) = (self.builder.label(), self.builder.label());
        self.builder.branch(Test::GreaterOrEqual, Operand::K(bound), from, below);
        self.builder.place(below);
        from
    }

    fn load_low(&mut self) {
        self.builder.step(Step::LoadPacket(Width::Half, Address::Absolute(self.field + 4)));
    }

    fn ends(&mut self) -> Ends {
        Ends { found: self.builder.label(), missing: self.builder.label() }
    }

    fn returns(&mut self, ends: Ends) {
        self.builder.place(ends.found);
        self.builder.answer(WHOLE_PACKET);
        self.builder.place(ends.missing);
        self.builder.answer(0);
    }
}

#[cfg(test)]
#[path = "mac_set_tests.rs"]
mod tests;
