//! What `linux.seccomp` becomes beside the program (flags, listener), what is refused, and that the kernel takes the
//! program and obeys it. The answers of the program are held to libseccomp in `seccomp_differential`.

use oci_spec::runtime::LinuxSeccomp;
use rustix::io::Errno;
use serde_json::{Value, json};
use tare_plan::seccomp::plan;

const DOCKER: &str = include_str!("fixtures/seccomp-docker.json");

fn read(profile: Value) -> LinuxSeccomp {
    serde_json::from_value(profile).unwrap_or_else(|error| unreachable!("not a profile: {error}"))
}

fn flags(profile: Value) -> u32 {
    plan(&read(profile)).map_or(u32::MAX, |filter| filter.flags)
}

fn refusal(profile: Value) -> String {
    plan(&read(profile)).map_or_else(|refusal| refusal.to_string(), |_| "nothing refused".to_owned())
}

#[test]
fn flags_are_runcs() {
    let with = |flags: Value| json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": flags });
    assert_eq!(flags(json!({ "defaultAction": "SCMP_ACT_ALLOW" })), 4, "SPEC_ALLOW when there is no list");
    assert_eq!(flags(with(json!([]))), 0);
    assert_eq!(flags(with(json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]))), 6);
    assert_eq!(flags(with(json!(["SECCOMP_FILTER_FLAG_TSYNC"]))), 0, "one thread has nobody to synchronise");
    assert_eq!(flags(with(json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]))), 0, "nobody to wait for");
}

#[test]
fn a_notifying_rule_brings_a_listener() {
    let mut profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "listenerPath": "/run/agent.sock",
        "listenerMetadata": "for the agent",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
    });
    let filter = plan(&read(profile.clone())).unwrap();
    assert_eq!(filter.flags, 8 | 32);
    assert_eq!(filter.listener, Some(("/run/agent.sock".into(), "for the agent".to_owned())));
    profile["syscalls"] = json!([]);
    assert_eq!(plan(&read(profile)).unwrap().listener, None, "a path without a notifying rule is left alone");
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let rule = |rule: Value| json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule] });
    let refused = [
        (json!({ "defaultAction": "SCMP_ACT_NOTIFY" }), "SCMP_ACT_NOTIFY cannot be used as default action"),
        (
            rule(json!({ "names": ["write"], "action": "SCMP_ACT_NOTIFY" })),
            "NOTIFY cannot be used for the write syscall",
        ),
        (rule(json!({ "names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY" })), "NOTIFY cannot be used for the sendmsg"),
        (rule(json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY" })), "listenerPath: missing"),
        (rule(json!({ "names": [""], "action": "SCMP_ACT_ALLOW" })), "not a system call"),
        (rule(json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096 })), "4096 is more than 4095"),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }] })),
            "syscalls[0].args[0].index: a system call has arguments 0 to 5",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"] }),
            "architectures: SCMP_ARCH_S390X has no system call table",
        ),
    ];
    for (profile, part) in refused {
        let refusal = refusal(profile);
        assert!(refusal.contains(part), "{refusal:?} does not say {part:?}");
    }
}

#[test]
fn contradicting_rules_are_refused() {
    let one = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }]);
    let profile = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": one },
        { "names": ["read"], "action": "SCMP_ACT_LOG", "args": one },
    ]});
    assert!(refusal(profile).contains("two rules for read"));
}

#[test]
fn a_filter_the_kernel_would_not_take_is_refused() {
    let rule = |value: u64| {
        let args = json!([{ "index": 0, "value": value << 32 | value, "op": "SCMP_CMP_EQ" }]);
        json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args })
    };
    let profile = |rules: u64| {
        let rules: Vec<Value> = (0..rules).map(rule).collect();
        json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules })
    };
    assert!(plan(&read(profile(1000))).is_ok());
    assert!(refusal(profile(1100)).contains("the kernel takes 4096"));
}

#[test]
fn equal_profiles_give_equal_filters_and_dockers_stays_short() {
    let docker: LinuxSeccomp = serde_json::from_str(DOCKER).unwrap();
    let filter = plan(&docker).unwrap();
    assert_eq!(filter, plan(&docker).unwrap());
    assert!(filter.program.len() / 8 <= 320, "{} instructions", filter.program.len() / 8);
}

/// Runs `question` in a thread that has installed the profile's filter: a filter holds for the thread that installs it.
fn under<T: Send + 'static>(profile: Value, question: fn() -> T) -> T {
    let filter = plan(&read(profile)).unwrap_or_else(|refusal| unreachable!("{refusal}"));
    let decode = |at: &[u8]| seccompiler::sock_filter {
        code: u16::from_ne_bytes([at[0], at[1]]),
        jt: at[2],
        jf: at[3],
        k: u32::from_ne_bytes([at[4], at[5], at[6], at[7]]),
    };
    let program: Vec<seccompiler::sock_filter> = filter.program.chunks_exact(8).map(decode).collect();
    let inside = move || {
        seccompiler::apply_filter(&program).unwrap_or_else(|error| unreachable!("the kernel refuses: {error}"));
        question()
    };
    std::thread::spawn(inside).join().unwrap_or_else(|_| unreachable!("the question panicked"))
}

#[test]
fn the_kernel_takes_dockers_filter_and_obeys_it() {
    let mut docker: Value = serde_json::from_str(DOCKER).unwrap();
    let told_apart =
        json!({ "names": ["umount2"], "action": "SCMP_ACT_ERRNO", "errnoRet": Errno::UCLEAN.raw_os_error() });
    docker["syscalls"].as_array_mut().unwrap().push(told_apart);
    let unmount = || rustix::mount::unmount("/no/such/mount", rustix::mount::UnmountFlags::empty());
    assert_eq!(under(docker.clone(), unmount), Err(Errno::UCLEAN));
    assert!(under(docker, || rustix::fs::stat("/")).is_ok());
}

#[test]
fn the_kernel_sees_whole_arguments() {
    let far = json!([{ "index": 1, "value": 0x1_0000_0007_u64, "op": "SCMP_CMP_EQ" }]);
    let rule = json!({ "names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": Errno::UCLEAN.raw_os_error(), "args": far });
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    let seeks = || -> Result<_, Errno> {
        let file = std::fs::File::open("/proc/self/exe").map_err(|_| Errno::NOENT)?;
        let near = rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(7))?;
        Ok((near, rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0x1_0000_0007))))
    };
    assert_eq!(under(profile, seeks), Ok((7, Err(Errno::UCLEAN))));
}
