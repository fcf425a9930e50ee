//! Classic BPF, run as the kernel runs a seccomp filter: enough of it for programs of libseccomp and of tare. Anything
//! else, a jump past the end, or an answer that never comes is an error and not a guess.

/// `struct seccomp_data` without the instruction pointer, which no rule can look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) number: u32,
    pub(crate) audit_token: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0..4].copy_from_slice(&self.number.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.audit_token.to_ne_bytes());
        for (place, arg) in bytes[16..].chunks_exact_mut(8).zip(self.args) {
            place.copy_from_slice(&arg.to_ne_bytes());
        }
        bytes
    }
}

/// A decoded `struct sock_filter`: code, jump if true, jump if false, constant.
pub(crate) type Instruction = (u16, usize, usize, u32);

pub(crate) fn decode(program: &[u8]) -> Vec<Instruction> {
    assert_eq!(program.len() % 8, 0, "half an instruction");
    let decode = |at: &[u8]| {
        let code = u16::from_ne_bytes([at[0], at[1]]);
        (code, usize::from(at[2]), usize::from(at[3]), u32::from_ne_bytes([at[4], at[5], at[6], at[7]]))
    };
    program.chunks_exact(8).map(decode).collect()
}

/// The filter's answer to the call.
pub(crate) fn run(program: &[Instruction], call: &Call) -> Result<u32, String> {
    let data = call.bytes();
    let mut accumulator = 0_u32;
    let mut at = 0;
    loop {
        let &(code, yes, no, value) = program.get(at).ok_or_else(|| format!("ran past the end, to {at}"))?;
        at += 1;
        let jump = |holds: bool| at + if holds { yes } else { no };
        match code {
            0x20 => {
                let offset = usize::try_from(value).map_err(|_| "an offset beyond reach")?;
                let word = data.get(offset..offset + 4).filter(|_| offset % 4 == 0).ok_or("a load outside the data")?;
                accumulator = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
            }
            0x54 => accumulator &= value,
            0x05 => at += usize::try_from(value).map_err(|_| "a jump beyond reach")?,
            0x15 => at = jump(accumulator == value),
            0x25 => at = jump(accumulator > value),
            0x35 => at = jump(accumulator >= value),
            0x45 => at = jump(accumulator & value != 0),
            0x06 => return Ok(value),
            other => return Err(format!("instruction {other:#x} at {at}")),
        }
    }
}
