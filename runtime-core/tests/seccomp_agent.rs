//! `SCMP_ACT_NOTIFY` on the real kernel, with an agent that answers. Runs as root.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bundle::{Bundle, captured, config, line, silent, text, wait};
use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use runtime_core::{Exec, ExitStatus};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

/// An agent that lets every call go on, but for `mkdir`, which finds no medium. It tells what it was sent.
struct Agent {
    path: PathBuf,
    messages: Receiver<Value>,
}

impl Agent {
    fn new(bundle: &Bundle) -> Self {
        let path = bundle.0.join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            while let Ok((connection, _)) = listener.accept() {
                receive(connection.into(), &sender);
            }
        });
        Self { path, messages }
    }

    fn next(&self) -> Value {
        self.messages.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

fn receive(connection: OwnedFd, messages: &Sender<Value>) {
    let mut bytes = vec![0; 65536];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    let length = recvmsg(&connection, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    let listener = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let listener = listener.unwrap();
    std::thread::spawn(move || answer(&listener));
    let _ = messages.send(serde_json::from_slice(&bytes[..length]).unwrap());
}

/// Until nobody is left to ask.
fn answer(listener: &OwnedFd) {
    use rustix::event::{PollFd, PollFlags, poll};
    const ENOMEDIUM: i32 = 123;
    let mkdir = ["mkdir", "mkdirat"].map(|name| libseccomp::ScmpSyscall::from_name(name).unwrap());
    loop {
        let mut watched = [PollFd::new(listener, PollFlags::IN)];
        poll(&mut watched, None).unwrap();
        if !watched[0].revents().contains(PollFlags::IN) {
            return;
        }
        // Whoever asked may have been killed meanwhile.
        let Ok(asked) = ScmpNotifReq::receive(listener.as_raw_fd()) else { continue };
        let answer = match mkdir.contains(&asked.data.syscall) {
            true => ScmpNotifResp::new_error(asked.id, -ENOMEDIUM, ScmpNotifRespFlags::empty()),
            false => ScmpNotifResp::new_continue(asked.id, ScmpNotifRespFlags::empty()),
        };
        let _ = answer.respond(listener.as_raw_fd());
    }
}

fn notifying(script: &str, agent: &Agent, calls: &[&str]) -> Value {
    let mut config = config(script);
    config["annotations"] = json!({ "a": "b" });
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "listenerPath": agent.path,
        "listenerMetadata": "for the agent",
        "syscalls": [{ "names": calls, "action": "SCMP_ACT_NOTIFY" }],
    });
    config
}

#[test]
fn an_agent_answers_for_init_and_for_an_exec() {
    for (name, no_new_privileges) in [("notify", false), ("notify-nnp", true)] {
        let bundle = Bundle::new(name);
        let agent = Agent::new(&bundle);
        let script = "busybox mkdir /tmp/x; busybox sleep 1000";
        let mut config = notifying(script, &agent, &["mkdir", "mkdirat"]);
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let (reader, stdio) = captured();
        let (container, init) = bundle.create(&config, stdio).unwrap();
        let state = |status: &str| {
            json!({ "ociVersion": "1.3.0", "id": bundle.id(), "status": status, "pid": init.pid(), "bundle": bundle.0,
                "annotations": { "a": "b" } })
        };
        let message = |pid: i32, status: &str| {
            json!({ "ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": pid, "metadata": "for the agent",
                "state": state(status) })
        };
        assert_eq!(agent.next(), message(init.pid(), "creating"));
        container.start().unwrap();
        let mut process = config["process"].clone();
        process["args"] = json!(["/bin/busybox", "mkdir", "/tmp/y"]);
        let (exec_reader, stdio) = captured();
        let process = serde_json::from_value(process).unwrap();
        let exec = container.exec(Exec::new(process, stdio)).unwrap();
        assert_eq!(agent.next(), message(exec.pid(), "running"));
        assert_eq!(wait(&exec), ExitStatus::Code(1));
        let said = text(exec_reader);
        assert!(said.contains("No medium found"), "{said}");
        let said = line(&reader);
        container.delete().unwrap();
        wait(&init);
        assert!(said.contains("No medium found"), "{said}");
    }
}

/// Those that the stub itself makes after the filter is installed, and those of every program's start.
#[test]
fn an_agent_may_be_asked_about_the_calls_of_set_up() {
    for (name, no_new_privileges) in [("notify-set-up", false), ("notify-set-up-nnp", true)] {
        let bundle = Bundle::new(name);
        let agent = Agent::new(&bundle);
        let calls = ["execve", "openat", "open", "read", "close", "fcntl", "capset", "mmap"];
        let mut config = notifying("exit 5", &agent, &calls);
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        assert_eq!(bundle.run(&config).0, ExitStatus::Code(5));
    }
}

#[test]
fn without_an_agent_nothing_is_created() {
    let bundle = Bundle::new("notify-alone");
    let agent = Agent { path: bundle.0.join("nobody.sock"), messages: channel().1 };
    let mut config = notifying("exit 0", &agent, &["mkdir"]);
    for path in [agent.path.to_str().unwrap(), "@tare-test-nobody"] {
        config["linux"]["seccomp"]["listenerPath"] = json!(path);
        let error = bundle.create(&config, silent()).unwrap_err().to_string();
        assert!(error.contains("failed to connect with seccomp agent"), "{error}");
        assert!(!bundle.0.join("state.json").exists());
    }
}

#[test]
fn a_start_container_hook_is_answered_for_too_and_holds_nothing_more() {
    let bundle = Bundle::new("notify-hook");
    let agent = Agent::new(&bundle);
    let mut config = notifying("busybox cat /tmp/hook", &agent, &["mkdir", "mkdirat"]);
    let script = "busybox ls /proc/self/fd > /tmp/hook; busybox mkdir /tmp/x 2>> /tmp/hook; exit 0";
    config["hooks"] = json!({ "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    let (status, output) = bundle.run(&config);
    assert_eq!(status, ExitStatus::Code(0));
    assert!(output.starts_with("0\n1\n2\n3\nmkdir:") && output.contains("No medium found"), "{output}");
    assert_eq!(
        (agent.next()["state"]["status"].clone(), agent.next()["state"]["status"].clone()),
        (json!("creating"), json!("created"))
    );
}
