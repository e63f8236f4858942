//! Finds a function of the kernel's that programs may call, in what the kernel tells of its types
//! (Documentation/bpf/btf.rst).

/// The number of the function `name` in the kernel's types, the octets of `/sys/kernel/btf/vmlinux`. `None` when there
/// is none, or the octets are no such types.
pub fn function(types: &[u8], name: &str) -> Option<u32> {
    const MAGIC: u16 = 0xeb9f;
    const FUNCTION: u32 = 12;
    let magic = types.first_chunk().map(|octets| u16::from_ne_bytes(*octets));
    if magic != Some(MAGIC) {
        return None;
    }
    let part = |offset: usize| {
        let begin = (word(types, 4)? as usize).checked_add(word(types, offset)? as usize)?;
        types.get(begin..begin.checked_add(word(types, offset + 4)? as usize)?)
    };
    let (mut rest, names) = (part(8)?, part(16)?);
    let is_it = |at: u32| {
        let found = names.get(at as usize..)?.split(|octet| *octet == 0).next()?;
        Some(found == name.as_bytes())
    };
    // Number 0 is "no type".
    let mut number = 1;
    while !rest.is_empty() {
        let info = word(rest, 4)?;
        let (kind, members) = (info >> 24 & 0x1f, info as usize & 0xffff);
        if kind == FUNCTION && is_it(word(rest, 0)?)? {
            return Some(number);
        }
        rest = rest.get(12 + behind(kind, members)?..)?;
        number += 1;
    }
    None
}

/// Octets behind the three words that every type has.
fn behind(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        // A number, a variable, a tag of a declaration.
        1 | 14 | 17 => 4,
        // An array.
        3 => 12,
        // A structure, a union, a section of data, an enumeration of 64 bits.
        4 | 5 | 15 | 19 => 12 * members,
        // An enumeration, a function's parameters.
        6 | 13 => 8 * members,
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

fn word(octets: &[u8], offset: usize) -> Option<u32> {
    octets.get(offset..)?.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types as the kernel tells them: a number, a structure of one member, and two functions.
    fn types() -> Vec<u8> {
        let names = b"\0int\0one\0two\0";
        let words: [u32; 16] = [
            1,
            1 << 24,
            4,
            0, // int
            0,
            4 << 24 | 1,
            4,
            1,
            1,
            0, // struct { int int; }
            5,
            12 << 24,
            1, // one
            9,
            12 << 24,
            1, // two
        ];
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let header =
            [0xeb9f_u32 | 1 << 16, 24, 0, types.len() as u32, types.len() as u32, names.len() as u32];
        [&header.map(u32::to_ne_bytes).concat(), &types, &names[..]].concat()
    }

    #[test]
    fn a_function_is_found_by_its_name() {
        let types = types();
        assert_eq!(function(&types, "one"), Some(3));
        assert_eq!(function(&types, "two"), Some(4));
        assert_eq!(function(&types, "int"), None, "no function");
        assert_eq!(function(&types, "on"), None);
    }

    #[test]
    fn what_is_cut_off_has_no_function() {
        let types = types();
        for len in 0..types.len() {
            assert_eq!(function(&types[..len], "none"), None, "{len}");
        }
        assert_eq!(function(&[0xff; 100], "one"), None);
    }

    #[test]
    fn the_kernel_tells_of_tags() {
        let Ok(types) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        assert_eq!(function(&types, "no_such_function"), None);
        assert!(function(&types, "bpf_xdp_metadata_rx_vlan_tag").is_some());
    }
}
