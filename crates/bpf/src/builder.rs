//! Programs from operations and labels.
//!
//! Theory of operation. Operations are kept in order with labels for jump targets until [`Builder::finish`]. A branch
//! can skip 255 instructions, a jump any number; so a branch side whose target is further away gets a jump of its own
//! right after the branch. Such jumps move others further apart, so the layout is computed until no more are needed;
//! it ends, because a side that got a jump keeps it.

use crate::{CheckError, Instruction, MAX_LENGTH, Operand, Operation, Program, Step, Test, ValidProgram};

/// A place in a program that is being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(usize);

/// Why no program can be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A jump goes to a label that was never placed.
    #[error("operation {0} (the first is 0) jumps to a label that is not placed")]
    Unplaced(usize),
    /// A jump goes to a label before it.
    #[error("operation {0} (the first is 0) jumps backward, which no program may")]
    Backward(usize),
    /// The program as a whole breaks a rule.
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// Builds a program from operations and labels; see [`Builder::finish`].
///
/// ```
/// use vmlan_bpf::{Address, Builder, Operand, Step, Test, WHOLE_PACKET, Width};
///
/// let mut builder = Builder::new();
/// let (ipv6, other) = (builder.label(), builder.label());
/// builder.step(Step::LoadPacket(Width::Half, Address::Absolute(12)));
/// builder.branch(Test::Equal, Operand::K(0x86dd), ipv6, other);
/// builder.place(ipv6);
/// builder.answer(WHOLE_PACKET);
/// builder.place(other);
/// builder.answer(0);
/// let program = builder.finish()?;
///
/// assert_eq!(program.to_string(), "4\n40 0 0 12\n21 0 1 34525\n6 0 0 4294967295\n6 0 0 0\n");
/// # Ok::<(), vmlan_bpf::BuildError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    items: Vec<Item<Label>>,
    /// For each label the index of the item that follows it.
    places: Vec<Option<usize>>,
}

/// An operation whose jumps go to labels, or to the items of these indices.
#[derive(Clone, Copy, Debug)]
enum Item<Target> {
    Operation(Operation),
    Jump(Target),
    Branch { test: Test, operand: Operand, yes: Target, no: Target },
}

impl Builder {
    /// A builder of an empty program.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Makes a label, which is not placed yet.
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Places a label before the next operation.
    ///
    /// # Panics
    /// When the label is placed already, or another builder made it.
    pub fn place(&mut self, label: Label) {
        let place = self.places.get_mut(label.0).expect("a label of this builder");
        assert!(place.is_none(), "a label is placed once");
        *place = Some(self.items.len());
    }

    /// Appends an operation after which the next one follows.
    pub fn step(&mut self, step: Step) {
        self.items.push(Item::Operation(Operation::Step(step)));
    }

    /// Appends a jump.
    pub fn jump(&mut self, target: Label) {
        self.items.push(Item::Jump(target));
    }

    /// Appends a comparison of A with the operand, which goes on at `yes` when it holds and else at `no`.
    pub fn branch(&mut self, test: Test, operand: Operand, yes: Label, no: Label) {
        self.items.push(Item::Branch { test, operand, yes, no });
    }

    /// Appends a return with this answer, in octets to keep.
    pub fn answer(&mut self, octets: u32) {
        self.items.push(Item::Operation(Operation::Return(octets)));
    }

    /// Appends a return with A as the answer.
    pub fn answer_a(&mut self) {
        self.items.push(Item::Operation(Operation::ReturnA));
    }

    /// Lays the program out and checks it. A branch that reaches too far for its 8 bits gets jumps to help it.
    ///
    /// # Errors
    /// A jump backward or to a label without a place, or what [`Program::check`] says.
    pub fn finish(self) -> Result<ValidProgram, BuildError> {
        if self.items.len() > MAX_LENGTH {
            return Err(CheckError::TooLong(self.items.len()).into());
        }
        let layout = Layout::new(self.resolve()?);
        Ok(layout.emit().check()?)
    }

    fn resolve(&self) -> Result<Vec<Item<usize>>, BuildError> {
        let target = |from: usize, label: Label| {
            let place = self.places.get(label.0).copied().flatten().ok_or(BuildError::Unplaced(from))?;
            if place > from { Ok(place) } else { Err(BuildError::Backward(from)) }
        };
        let items = self.items.iter().enumerate().map(|(from, item)| {
            Ok(match *item {
                Item::Operation(operation) => Item::Operation(operation),
                Item::Jump(to) => Item::Jump(target(from, to)?),
                Item::Branch { test, operand, yes, no } => {
                    Item::Branch { test, operand, yes: target(from, yes)?, no: target(from, no)? }
                }
            })
        });
        items.collect()
    }
}

/// Where each item's instructions begin.
struct Layout {
    items: Vec<Item<usize>>,
    /// Which sides of an item, yes and no, have a jump of their own after it.
    far: Vec<[bool; 2]>,
    /// One more than there are items; the last is the program's length.
    starts: Vec<usize>,
}

impl Layout {
    fn new(items: Vec<Item<usize>>) -> Layout {
        let mut layout =
            Layout { far: vec![[false; 2]; items.len()], starts: vec![0; items.len() + 1], items };
        loop {
            layout.measure();
            if !layout.widen() {
                return layout;
            }
        }
    }

    fn measure(&mut self) {
        let mut start = 0;
        for (place, far) in self.starts.iter_mut().zip(&self.far) {
            *place = start;
            start += 1 + far.iter().filter(|&&far| far).count();
        }
        self.starts[self.items.len()] = start;
    }

    /// Gives a jump to each side that needs one and has none; answers whether there was any.
    fn widen(&mut self) -> bool {
        let mut widened = false;
        for (index, item) in self.items.iter().enumerate() {
            let Item::Branch { yes, no, .. } = *item else { continue };
            for (side, target) in [yes, no].into_iter().enumerate() {
                if !self.far[index][side] && self.skip(self.starts[index], target) > u8::MAX.into() {
                    self.far[index][side] = true;
                    widened = true;
                }
            }
        }
        widened
    }

    /// How many instructions lie between the one at `from` and the item `target`.
    fn skip(&self, from: usize, target: usize) -> usize {
        self.starts[target] - from - 1
    }

    fn emit(&self) -> Program {
        let mut program: Vec<Instruction> = Vec::with_capacity(self.starts[self.items.len()]);
        for (index, item) in self.items.iter().enumerate() {
            match *item {
                Item::Operation(operation) => program.push(operation.into()),
                Item::Jump(target) => program.push(self.jump(program.len(), target)),
                Item::Branch { test, operand, yes, no } => {
                    let start = program.len();
                    let [far_yes, far_no] = self.far[index];
                    // The jumps that help lie right after the branch, that of `yes` first.
                    let near = |far: bool, before: bool, target: usize| {
                        let skip = if far { before.into() } else { self.skip(start, target) };
                        u8::try_from(skip).expect("the layout gave a jump to every far side")
                    };
                    let (yes_skip, no_skip) = (near(far_yes, false, yes), near(far_no, far_yes, no));
                    program.push(Operation::Branch { test, operand, yes: yes_skip, no: no_skip }.into());
                    for (far, target) in [(far_yes, yes), (far_no, no)] {
                        if far {
                            program.push(self.jump(program.len(), target));
                        }
                    }
                }
            }
        }
        program.into()
    }

    fn jump(&self, from: usize, target: usize) -> Instruction {
        let skip = u32::try_from(self.skip(from, target)).expect("an item makes at most three instructions");
        Operation::Jump(skip).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arithmetic, Fault, Register, Source};

    fn increment(builder: &mut Builder, times: usize) {
        for _ in 0..times {
            builder.step(Step::Compute(Arithmetic::Add, Operand::K(1)));
        }
    }

    /// A = the packet's length; when it is 1 skip `yes` increments, else `no` of them; answer A.
    fn skipping(yes: usize, no: usize) -> ValidProgram {
        let mut builder = Builder::new();
        let (to_yes, to_no) = (builder.label(), builder.label());
        builder.step(Step::Load(Register::A, Source::Length));
        builder.branch(Test::Equal, Operand::K(1), to_yes, to_no);
        let (first, second) = if yes < no { (to_yes, to_no) } else { (to_no, to_yes) };
        increment(&mut builder, yes.min(no));
        builder.place(first);
        increment(&mut builder, yes.abs_diff(no));
        builder.place(second);
        increment(&mut builder, 1000);
        builder.answer_a();
        builder.finish().expect("a valid program")
    }

    #[test]
    fn branches_reach_as_far_as_they_have_to() {
        let cases = [
            (0, 3, 0),
            (255, 0, 0),
            (256, 0, 1),
            (0, 256, 1),
            // The jump of one side pushes the other's target too far away.
            (255, 256, 2),
            (300, 700, 2),
        ];

        for (yes, no, jumps) in cases {
            let program = skipping(yes, no);
            let most = yes.max(no);
            assert_eq!(program.instructions().len(), 2 + most + 1000 + 1 + jumps, "{yes}, {no}");
            assert_eq!(program.run(&[0]) as usize, 1 + most - yes + 1000, "{yes}, {no}");
            assert_eq!(program.run(&[0; 2]) as usize, 2 + most - no + 1000, "{yes}, {no}");
        }
    }

    #[test]
    fn jumps_go_forward_to_places() {
        let mut backward = Builder::new();
        let start = backward.label();
        backward.place(start);
        backward.answer(0);
        backward.jump(start);
        let mut unplaced = Builder::new();
        let nowhere = unplaced.label();
        unplaced.jump(nowhere);
        let mut past = Builder::new();
        let end = past.label();
        past.jump(end);
        past.place(end);

        assert_eq!(backward.finish(), Err(BuildError::Backward(1)));
        assert_eq!(unplaced.finish(), Err(BuildError::Unplaced(0)));
        let jumps_out = CheckError::Instruction { index: 0, fault: Fault::Jump };
        assert_eq!(past.finish(), Err(BuildError::Check(jumps_out)));
    }

    #[test]
    fn what_is_built_is_checked() {
        let mut divides = Builder::new();
        divides.step(Step::Compute(Arithmetic::Divide, Operand::K(0)));
        divides.answer(0);
        let mut long = Builder::new();
        increment(&mut long, MAX_LENGTH);
        long.answer(0);

        let fault = CheckError::Instruction { index: 0, fault: Fault::Division };
        assert_eq!(divides.finish(), Err(BuildError::Check(fault)));
        assert_eq!(long.finish(), Err(BuildError::Check(CheckError::TooLong(4097))));
    }
}
