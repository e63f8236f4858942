//! Programs in extended BPF, put together with names for the places that they branch to (RFC 9669).

use std::os::fd::{AsRawFd, BorrowedFd};

/// A register. Calls take what they need from the first five and change those, and answer in [`R0`]; the others stay.
pub(super) type Register = u8;

pub(super) const R0: Register = 0;
pub(super) const R1: Register = 1;
pub(super) const R2: Register = 2;
pub(super) const R3: Register = 3;
pub(super) const R4: Register = 4;
pub(super) const R5: Register = 5;
pub(super) const R6: Register = 6;
pub(super) const R7: Register = 7;
pub(super) const R8: Register = 8;
pub(super) const R9: Register = 9;
/// The end of the stack, which lies below it.
pub(super) const STACK: Register = 10;

/// How much a load or a store moves.
#[derive(Clone, Copy)]
pub(super) enum Width {
    Octet = 0x10,
    Half = 0x08,
    Word = 0x00,
    Double = 0x18,
}

/// When a branch is taken; the comparisons are of 32 bits.
#[derive(Clone, Copy)]
pub(super) enum When {
    Equal = 0x16,
    NotEqual = 0x56,
    AtLeast = 0x36,
    Below = 0xa6,
    /// A bit of the number is set.
    AnyBit = 0x46,
}

/// A place in a program that is branched to.
#[derive(Clone, Copy)]
pub(super) struct Label(usize);

/// A program that is being written.
#[derive(Default)]
pub(super) struct Assembler {
    code: Vec<u64>,
    /// Where each label is, once it has been placed.
    places: Vec<Option<usize>>,
    /// The branches, each with where it goes.
    branches: Vec<(usize, Label)>,
}

impl Assembler {
    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// The next instruction is what `label` names.
    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    /// The program, whose branches all know where they go.
    ///
    /// # Panics
    /// When a label that is branched to was never placed.
    pub(super) fn finish(mut self) -> Vec<u64> {
        for (at, label) in self.branches {
            let place = self.places[label.0].expect("every label has a place");
            let offset = (place as isize - at as isize - 1) as i16;
            self.code[at] |= with_offset(offset);
        }
        self.code
    }

    /// `to` = the octets at `from` plus `offset`, in the machine's order.
    pub(super) fn load(&mut self, width: Width, to: Register, from: Register, offset: i16) {
        self.push(0x61 | width as u8, to, from, offset, 0);
    }

    /// 32 bits of `from` to the memory at `to` plus `offset`.
    pub(super) fn store(&mut self, to: Register, offset: i16, from: Register) {
        self.push(0x63, to, from, offset, 0);
    }

    /// `from`, whole, to the memory at `to` plus `offset`.
    pub(super) fn store_whole(&mut self, to: Register, offset: i16, from: Register) {
        self.push(0x7b, to, from, offset, 0);
    }

    /// 64 bits to the memory at `to` plus `offset`: the number, which is extended by its sign.
    pub(super) fn store_whole_number(&mut self, to: Register, offset: i16, number: i32) {
        self.push(0x7a, to, 0, offset, number);
    }

    /// 32 bits to the memory at `to` plus `offset`.
    pub(super) fn store_number(&mut self, to: Register, offset: i16, number: i32) {
        self.push(0x62, to, 0, offset, number);
    }

    /// `to` = `from`, whole.
    pub(super) fn copy(&mut self, to: Register, from: Register) {
        self.push(0xbf, to, from, 0, 0);
    }

    /// `to` = `number`, as 32 bits.
    pub(super) fn set(&mut self, to: Register, number: i32) {
        self.push(0xb4, to, 0, 0, number);
    }

    /// `to` += `number`, which is extended by its sign.
    pub(super) fn add(&mut self, to: Register, number: i32) {
        self.push(0x07, to, 0, 0, number);
    }

    /// `to` += `from`, whole.
    pub(super) fn add_register(&mut self, to: Register, from: Register) {
        self.push(0x0f, to, from, 0, 0);
    }

    /// `to` -= `from`, whole.
    pub(super) fn subtract_register(&mut self, to: Register, from: Register) {
        self.push(0x1f, to, from, 0, 0);
    }

    /// `to` /= `from`, both whole and without a sign; 0 where `from` is 0.
    pub(super) fn divide_by(&mut self, to: Register, from: Register) {
        self.push(0x3f, to, from, 0, 0);
    }

    /// `to` &= `number`, which is extended by its sign.
    pub(super) fn mask(&mut self, to: Register, number: i32) {
        self.push(0x57, to, 0, 0, number);
    }

    /// `to` &= `from`, whole.
    pub(super) fn mask_by(&mut self, to: Register, from: Register) {
        self.push(0x5f, to, from, 0, 0);
    }

    /// `to` = `to`, with its bits moved up.
    pub(super) fn shift_up(&mut self, to: Register, bits: i32) {
        self.push(0x67, to, 0, 0, bits);
    }

    /// `to` = `to`, with its bits moved down and zeros behind them.
    pub(super) fn shift_down(&mut self, to: Register, bits: i32) {
        self.push(0x77, to, 0, 0, bits);
    }

    /// The same by as many bits as `from` says, below 64.
    pub(super) fn shift_down_by(&mut self, to: Register, from: Register) {
        self.push(0x7f, to, from, 0, 0);
    }

    /// `to` = `to`, with its bits moved up, together with those of `from`.
    pub(super) fn shift_and_join(&mut self, to: Register, bits: i32, from: Register) {
        self.shift_up(to, bits);
        self.push(0x4f, to, from, 0, 0);
    }

    /// Turns what was loaded from a packet into the number that it stands for.
    pub(super) fn decode(&mut self, register: Register, width: Width) {
        match width {
            Width::Octet => {}
            Width::Half => self.push(0xdc, register, 0, 0, 16),
            Width::Word => self.push(0xdc, register, 0, 0, 32),
            Width::Double => self.push(0xdc, register, 0, 0, 64),
        }
    }

    pub(super) fn branch(&mut self, when: When, register: Register, number: i32, label: Label) {
        self.branches.push((self.code.len(), label));
        self.push(when as u8, register, 0, 0, number);
    }

    /// Goes to `label` when `register` is greater than `number`, both whole and without a sign.
    pub(super) fn branch_beyond(&mut self, register: Register, number: i32, label: Label) {
        self.branches.push((self.code.len(), label));
        self.push(0x25, register, 0, 0, number);
    }

    /// Goes to `label` when `register` is greater than `other`, both whole and without a sign.
    pub(super) fn branch_above(&mut self, register: Register, other: Register, label: Label) {
        self.branches.push((self.code.len(), label));
        self.push(0x2d, register, other, 0, 0);
    }

    /// Goes to `label` when `register` equals `other`, both whole.
    pub(super) fn branch_same(&mut self, register: Register, other: Register, label: Label) {
        self.branches.push((self.code.len(), label));
        self.push(0x1d, register, other, 0, 0);
    }

    /// Goes to `label` when `register` differs from `other`, both whole.
    pub(super) fn branch_different(&mut self, register: Register, other: Register, label: Label) {
        self.branches.push((self.code.len(), label));
        self.push(0x5d, register, other, 0, 0);
    }

    /// Goes to `label` when `register` is an address, after a lookup, or any other number than zero.
    pub(super) fn branch_some(&mut self, register: Register, label: Label) {
        self.branches.push((self.code.len(), label));
        self.push(0x55, register, 0, 0, 0);
    }

    /// Goes to `label` when `register` is no address, after a lookup, or zero.
    pub(super) fn branch_null(&mut self, register: Register, label: Label) {
        self.branches.push((self.code.len(), label));
        self.push(0x15, register, 0, 0, 0);
    }

    pub(super) fn jump(&mut self, label: Label) {
        self.branches.push((self.code.len(), label));
        self.push(0x05, 0, 0, 0, 0);
    }

    /// `to` = the table behind a descriptor.
    pub(super) fn table(&mut self, to: Register, table: BorrowedFd<'_>) {
        // Two instructions, of which the first says that the number is a descriptor.
        self.push(0x18, to, 1, 0, table.as_raw_fd());
        self.code.push(0);
    }

    /// Calls the kernel's function with this number (`enum bpf_func_id` of linux/bpf.h).
    pub(super) fn call(&mut self, function: i32) {
        self.push(0x85, 0, 0, 0, function);
    }

    /// Calls a function that the kernel has under this number among its types.
    pub(super) fn call_typed(&mut self, function: u32) {
        self.push(0x85, 0, 2, 0, function as i32);
    }

    pub(super) fn exit(&mut self) {
        self.push(0x95, 0, 0, 0, 0);
    }

    fn push(&mut self, code: u8, to: Register, from: Register, offset: i16, number: i32) {
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        let [n0, n1, n2, n3] = number.to_ne_bytes();
        let instruction = u64::from_ne_bytes([code, registers, 0, 0, n0, n1, n2, n3]);
        self.code.push(instruction | with_offset(offset));
    }
}

/// An instruction that has nothing but its offset.
fn with_offset(offset: i16) -> u64 {
    let [o0, o1] = offset.to_ne_bytes();
    u64::from_ne_bytes([0, 0, o0, o1, 0, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_go_where_their_labels_are() {
        let mut program = Assembler::default();
        let (ahead, back) = (program.label(), program.label());
        program.place(back);
        program.branch(When::Equal, R2, 7, ahead);
        program.jump(back);
        program.place(ahead);
        program.exit();
        let octets: Vec<[u8; 8]> = program.finish().into_iter().map(u64::to_ne_bytes).collect();
        let offset = |at: usize| i16::from_ne_bytes([octets[at][2], octets[at][3]]);
        assert_eq!((offset(0), offset(1)), (1, -2));
    }
}
