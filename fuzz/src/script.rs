//! The stub's reader of scripts: whatever the bytes, ops are read whole or not at all, never beyond their end, and what
//! is read is written and read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tare_init::perform::Script;
use tare_init::script::{MAGIC, Op, Record, Sink};

/// What the ops of a script point into, as the parent writes it.
#[derive(Default)]
struct Written(Vec<u8>);

impl Sink for Written {
    fn store(&mut self, bytes: &[u8]) -> u32 {
        let offset = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(bytes);
        offset
    }
}

fuzz_target!(|bytes: &[u8]| {
    // The first word would take a while to guess.
    let bytes = [&MAGIC.to_ne_bytes()[..], bytes].concat();
    if let Some(record) = bytes.get(8..24).and_then(|bytes| bytes.try_into().ok()) {
        assert_eq!(Record::from_bytes(record).to_bytes(), *record);
    }
    let Some(script) = Script::read(&bytes) else { return };
    for op in script.ops().take(4096).flatten() {
        let text = op.to_string();
        match op {
            Op::Exec { arguments, environment } => {
                assert!(arguments.iter().chain(environment.iter()).all(|one| bytes.len() >= one.to_bytes().len()));
            }
            Op::Groups { groups } => assert!(groups.iter().count() <= bytes.len() / 4),
            _ => {}
        }
        let mut data = Written::default();
        let words = op.encode(&mut data);
        let again = Op::decode(&words, &data.0);
        assert_eq!(again.map(|op| op.to_string()), Some(text));
        assert_eq!(again, Some(op));
    }
});
