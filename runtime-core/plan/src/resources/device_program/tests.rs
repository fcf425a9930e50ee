//! The assembled program, run by an interpreter small enough to be believed.

use super::super::devices::{MKNOD, READ, WRITE, rules};
use super::assemble;

const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// Runs `program` for a request; it must answer within its own length.
fn run(program: &[u8], kind: u32, major: u32, minor: u32, access: u8) -> bool {
    let words = [u32::from(access) << 16 | kind, major, minor];
    let mut registers = [0_u64; 11];
    let mut at = 0_usize;
    for _ in 0..=program.len() / 8 {
        let bytes: [u8; 8] = program[at * 8..][..8].try_into().unwrap();
        let target = usize::from(bytes[1] & 15);
        let source = usize::from(bytes[1] >> 4);
        let offset = i16::from_ne_bytes([bytes[2], bytes[3]]);
        let value = i64::from(i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])).cast_unsigned();
        let mut jump = false;
        match bytes[0] {
            0x61 => registers[target] = u64::from(words[usize::try_from(offset).unwrap() / 4]),
            0xbf => registers[target] = registers[source],
            0xb7 => registers[target] = value,
            0x57 => registers[target] &= value,
            0x77 => registers[target] >>= value,
            0x55 => jump = registers[target] != value,
            0x45 => jump = registers[target] & value != 0,
            0x05 => jump = true,
            0x95 => return registers[0] != 0,
            other => panic!("instruction {other:#x}"),
        }
        at += 1;
        if jump {
            at = at.checked_add_signed(isize::from(offset)).unwrap();
        }
    }
    panic!("the program does not end");
}

/// Whether a container with these rules in its `config.json` may do that.
fn allowed(json: &str, (kind, major, minor): (u32, u32, u32), access: u8) -> bool {
    let listed: Vec<oci_spec::runtime::LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
    run(&assemble(&rules(&listed).unwrap()), kind, major, minor, access)
}

#[test]
fn without_rules_a_container_has_the_default_devices_and_may_make_any_node() {
    let null = (CHARACTER, 1, 3);
    let disk = (BLOCK, 8, 0);
    assert!(allowed("[]", null, READ | WRITE));
    assert!(allowed("[]", (CHARACTER, 136, 77), READ | WRITE | MKNOD));
    assert!(allowed("[]", disk, MKNOD));
    assert!(!allowed("[]", disk, READ));
    assert!(!allowed("[]", disk, READ | MKNOD));
    assert!(!allowed("[]", (CHARACTER, 1, 1), READ), "/dev/mem");
}

#[test]
fn the_last_rule_that_speaks_of_an_access_decides_it() {
    let fuse = (CHARACTER, 10, 229);
    let deny_then_allow =
        r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]"#;
    assert!(allowed(deny_then_allow, fuse, READ | WRITE));
    assert!(allowed(deny_then_allow, fuse, READ | WRITE | MKNOD), "making nodes is a default");
    let hole =
        r#"[{"allow":true,"type":"c","access":"rwm"},{"allow":false,"type":"c","major":10,"minor":229,"access":"w"}]"#;
    assert!(allowed(hole, fuse, READ));
    assert!(!allowed(hole, fuse, READ | WRITE));
    assert!(allowed(hole, (CHARACTER, 10, 228), READ | WRITE));
    let split = r#"[{"allow":true,"type":"b","major":8,"access":"r"},{"allow":true,"type":"b","major":8,"minor":1,"access":"w"}]"#;
    assert!(allowed(split, (BLOCK, 8, 1), READ | WRITE), "two rules together");
    assert!(!allowed(split, (BLOCK, 8, 2), READ | WRITE));
}

#[test]
fn a_privileged_container_has_everything_in_one_rule() {
    let listed = serde_json::from_str::<Vec<_>>(r#"[{"allow":false},{"allow":true,"access":"rwm"}]"#).unwrap();
    let program = assemble(&rules(&listed).unwrap());
    assert_eq!(program.len() / 8, 12);
    assert!(run(&program, BLOCK, 8, 0, READ | WRITE | MKNOD));
}
