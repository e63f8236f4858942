//! Programs as text and as instructions: what the checker passes runs without a panic, and answers what the kernel's
//! own interpreter does.
#![no_main]

use std::io::Read;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use socket2::{Domain, SockFilter, Socket, Type};
use vmlan_bpf::{Address, Instruction, Operation, Program, Step, ValidProgram};

/// A filter on the second socket decides about what the first one sends.
static SOCKETS: LazyLock<(Socket, Socket)> = LazyLock::new(|| {
    let (sender, receiver) = Socket::pair(Domain::UNIX, Type::DGRAM, None).expect("a pair of sockets");
    receiver.set_nonblocking(true).expect("a receiver that does not wait");
    (sender, receiver)
});

// Text, or the number of instructions, each in eight octets, and a packet.
fuzz_target!(|octets: &[u8]| {
    if let Ok(text) = str::from_utf8(octets) {
        if let Ok(program) = text.parse::<Program>() {
            assert_eq!(program.to_string().parse(), Ok(program.clone()));
            run(program, octets);
        }
    }
    let Some((&count, rest)) = octets.split_first() else { return };
    let (instructions, packet) = rest.split_at((usize::from(count) * 8).min(rest.len() / 8 * 8));
    let instruction = |octets: &[u8; 8]| {
        let [a, b, jt, jf, k @ ..] = *octets;
        Instruction::new(u16::from_le_bytes([a, b]), jt, jf, u32::from_le_bytes(k))
    };
    run(instructions.as_chunks().0.iter().map(instruction).collect(), packet);
});

fn run(program: Program, packet: &[u8]) {
    let Ok(program) = program.check() else { return };
    assert_eq!(program.disassembly().to_string().lines().count(), program.instructions().len());
    let answer = program.run(packet);
    let (head, rest) = packet.split_at(packet.len() / 3);
    assert_eq!(program.run_split(head, rest), answer);
    compare(&program, packet, answer);
}

fn compare(program: &ValidProgram, packet: &[u8], answer: u32) {
    let (sender, receiver) = &*SOCKETS;
    let filters: Vec<SockFilter> = program
        .instructions()
        .iter()
        .map(|&Instruction { code, jt, jf, k }| SockFilter::new(code, jt, jf, k))
        .collect();
    if let Err(error) = receiver.attach_filter(&filters) {
        // The sum of a socket's options is bounded; everything else is about the program.
        assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory, "the kernel refuses {program:?}: {error}");
        return;
    }
    sender.send(packet).expect("a packet sent");
    let kept = { receiver }.read(&mut [0; 1 << 16]).ok();
    let expected = (answer != 0).then(|| packet.len().min(answer as usize));
    // The kernel finds its headers at offsets that are negative there and outside here.
    let is_indirect = |operation: &Operation| {
        matches!(operation, Operation::Step(Step::LoadPacket(_, Address::Indirect(_))))
    };
    let excused = answer == 0 && program.operations().iter().any(is_indirect);
    assert!(kept == expected || excused, "{program:?} answers {answer}, the kernel keeps {kept:?}");
}
