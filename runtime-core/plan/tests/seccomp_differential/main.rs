//! The filter compiler against libseccomp: for Docker's profile and for generated ones both make a filter, and both
//! filters answer the same calls, of every ABI, with arguments on and beside the edges of every rule. libseccomp is
//! required: without it this test does not link, and so fails.

#![allow(clippy::expect_used, clippy::panic, reason = "clippy knows only the test functions themselves as tests")]

mod calls;
mod interpreter;
mod literal;
mod profiles;
mod reference;

use calls::Asked;
use interpreter::Call;
use literal::{Entry, Literal, Reading};
use oci_spec::runtime::LinuxSeccomp;
use profiles::Shape;
use reference::Reference;

#[test]
fn dockers_profile_answers_as_libseccomp_does() {
    for profile in [profiles::docker(), profiles::newer_docker()] {
        let tally = compare(&profile, 1).expect("tare answers as the profile says");
        assert_eq!(tally.libseccomp_astray, 0);
        assert!(tally.calls > 3_000, "only {} calls were compared", tally.calls);
    }
}

/// Where nothing of a profile is known to lead libseccomp astray, the answers are equal without exception.
#[test]
fn plain_profiles_answer_as_libseccomp_does() {
    let total = generated(0..200, Shape::Plain, &profiles::common_names());
    assert_eq!(total.libseccomp_astray, 0, "{total:?}");
}

#[test]
fn generated_profiles_answer_as_they_say() {
    let total = generated(0..300, Shape::OneActionPerCall, &profiles::names());
    assert!(total.libseccomp_astray * 1000 < total.calls, "{total:?}");
}

/// Seeds of profiles for which libseccomp 2.5.4 goes in circles (docs/decisions/0004-seccomp.md); tare is still asked.
const LIBSECCOMP_NEVER_RETURNS: [u64; 1] = [116];

fn generated(seeds: std::ops::Range<u64>, shape: Shape, names: &[String]) -> Tally {
    let mut total = Tally::default();
    for seed in seeds {
        let profile = profiles::generated(seed, shape, names);
        if shape != Shape::Plain && LIBSECCOMP_NEVER_RETURNS.contains(&seed) {
            assert!(tare_plan::seccomp::plan(&profile).is_ok(), "seed {seed}");
            continue;
        }
        match compare(&profile, seed) {
            Ok(tally) => total.add(&tally),
            Err(_) => {
                let (profile, difference) = shrunk(profile, seed);
                panic!("seed {seed}: {difference} under {}", serde_json::to_string(&profile).expect("JSON"));
            }
        }
    }
    println!("{shape:?}: {total:?}");
    total
}

/// Rules of one call with different actions. Where several match, the profile itself does not say which wins; tare
/// follows libseccomp's order but for the corners of its tree, and never answers what no matching rule says.
#[test]
fn rules_that_compete_win_as_in_libseccomp() {
    let names = profiles::names();
    let mut total = Tally::default();
    let mut refused = 0;
    for seed in 0..200 {
        let profile = profiles::generated(seed, Shape::MixedActions, &names);
        if LIBSECCOMP_NEVER_RETURNS.contains(&seed) {
            continue;
        }
        match (tare_plan::seccomp::plan(&profile), Reference::new(&profile)) {
            (Ok(_), Ok(_)) => {
                let tally = compare(&profile, seed).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
                total.add(&tally);
            }
            // libseccomp also takes rules for contradictions that only share the upper half of a value.
            (_, Err(_)) => refused += 1,
            (Err(refusal), Ok(_)) => panic!("seed {seed}: only tare refuses: {refusal}"),
        }
    }
    println!("{total:?}, {refused} profiles refused");
    assert!(refused < 100, "{refused} profiles were not compared");
    assert!(total.contested_otherwise * 20 < total.contested_alike, "{total:?}");
}

/// What a comparison saw.
#[derive(Debug, Default)]
struct Tally {
    calls: usize,
    /// Answers of libseccomp that are not what the profile says (docs/decisions/0004-seccomp.md says when and why).
    libseccomp_astray: usize,
    /// Calls for which rules with conditions and different actions match, answered alike by both.
    contested_alike: usize,
    /// The same, answered differently.
    contested_otherwise: usize,
}

impl Tally {
    /// Counts the answers of tare and of libseccomp to a call.
    fn count(&mut self, entry: &Entry, call: &Call, (ours, theirs): (u32, u32)) -> Result<(), String> {
        self.calls += 1;
        match entry.reading(call) {
            Reading::Answer(right) if ours != right => {
                return Err(format!("tare answers {ours:#x}, libseccomp {theirs:#x}, not {right:#x}"));
            }
            Reading::Answer(right) if theirs != right => self.libseccomp_astray += 1,
            Reading::Answer(_) => {}
            Reading::Contested(answers) if !answers.contains(&ours) => {
                return Err(format!("tare answers {ours:#x}, none of {answers:x?}"));
            }
            Reading::Contested(_) if ours == theirs => self.contested_alike += 1,
            Reading::Contested(_) => self.contested_otherwise += 1,
        }
        Ok(())
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.libseccomp_astray += other.libseccomp_astray;
        self.contested_alike += other.contested_alike;
        self.contested_otherwise += other.contested_otherwise;
    }
}

/// The profile with every entry left out that the difference does not need, and that difference.
fn shrunk(mut profile: LinuxSeccomp, seed: u64) -> (LinuxSeccomp, String) {
    let mut difference = String::new();
    let entries = profile.syscalls().clone().unwrap_or_default().len();
    for index in (0..entries).rev() {
        let mut smaller = profile.clone();
        let mut entries = smaller.syscalls().clone().unwrap_or_default();
        entries.remove(index);
        smaller.set_syscalls(Some(entries));
        if let Err(still) = compare(&smaller, seed) {
            (profile, difference) = (smaller, still);
        }
    }
    (profile, difference)
}

/// Asks both filters about all calls worth asking. An error is an answer of tare that is not what the profile says.
fn compare(profile: &LinuxSeccomp, seed: u64) -> Result<Tally, String> {
    let reference = Reference::new(profile).map_err(|error| format!("libseccomp refuses: {error}"))?;
    let filter = tare_plan::seccomp::plan(profile).map_err(|refusal| format!("tare refuses: {refusal}"))?;
    let program = interpreter::decode(&filter.program);
    let literal = Literal::new(profile);
    let mut tally = Tally::default();
    for Asked { audit_token, number, args } in calls::asked(profile, seed) {
        let entry = literal.entry(audit_token, number);
        for args in args {
            let call = Call { number, audit_token, args };
            let answers = (interpreter::run(&program, &call)?, reference.answer(&call));
            tally.count(&entry, &call, answers).map_err(|problem| format!("{problem}, to {call:x?}"))?;
        }
    }
    Ok(tally)
}
