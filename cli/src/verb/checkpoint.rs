//! `checkpoint`: a container on disk. The flags are runc's and crun's.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use runtime_core::{Afterwards, CgroupMode, Checkpoint, CriuOptions, Extent, NetworkLock, is_inherited};

use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::files;
use crate::flags::{Flag, Given, Order, switch, value};
use crate::session::Session;
use crate::store::forget;

/// What `restore` takes, too.
pub(crate) const SHARED: &[Flag] = &[
    value(&["image-path"], "the folder of the images (default: ./checkpoint)"),
    value(&["work-path"], "the folder of CRIU's logs"),
    switch(&["tcp-established"], "allow open TCP connections"),
    switch(&["ext-unix-sk"], "allow Unix sockets connected to the outside"),
    switch(&["shell-job"], "allow a terminal of the caller"),
    switch(&["lazy-pages"], "leave memory behind until it is asked for"),
    switch(&["file-locks"], "allow file locks"),
    value(&["manage-cgroups-mode"], "soft, full, strict or ignore (default: soft)"),
    value(&["empty-ns"], "a namespace whose properties are left out; may be given often"),
    switch(&["auto-dedup"], "keep each page once"),
    value(&["network-lock"], "how the network is locked meanwhile: iptables, nftables or skip"),
];

pub(crate) const COMMAND: Command = Command {
    name: "checkpoint",
    usage: "<container-id>",
    about: "write a running container to disk",
    details: "",
    flags: &[
        SHARED,
        &[
            value(&["parent-path"], "the folder of earlier images, relative to this one"),
            switch(&["leave-running"], "let the container go on"),
            switch(&["tcp-skip-in-flight"], "leave out TCP connections that are being made"),
            switch(&["link-remap"], "allow files that have been deleted and linked again"),
            value(&["status-fd"], "a descriptor to write to when lazy pages are ready"),
            value(&["page-server"], "ADDRESS:PORT of a page server"),
            switch(&["pre-dump"], "write memory only, and let the container go on"),
        ],
    ],
    order: Order::Anywhere,
    words: Words::Exactly(1),
    run,
};

fn run(session: &Session, given: &Given) -> Outcome {
    let container = session.store.open(given.id())?;
    let extent = if given.has("pre-dump") { Extent::Memory } else { Extent::Whole };
    let runs_on = given.has("leave-running") || extent == Extent::Memory;
    container.checkpoint(Checkpoint {
        images: images(given)?,
        work: given.filled("work-path").map(files::absolute).transpose()?,
        parent: given.filled("parent-path").map(PathBuf::from),
        extent,
        afterwards: if runs_on { Afterwards::RunsOn } else { Afterwards::Ends },
        page_server: given.filled("page-server").map(page_server).transpose()?,
        status: status(given)?,
        options: options(given)?,
    })?;
    if !runs_on {
        // It is on disk; what could not be taken away, `delete` can try again.
        let gone = container.delete().map_err(Failure::from);
        if let Err(failure) = gone.and_then(|()| forget(&session.store.folder(given.id())?)) {
            session.log.warn(&failure.to_string());
        }
    }
    Ok(0)
}

/// The folder of the images, as the caller means it.
pub(crate) fn images(given: &Given) -> Result<PathBuf, Failure> {
    files::absolute(given.filled("image-path").unwrap_or("checkpoint"))
}

/// What `restore` can be told, too.
pub(crate) fn options(given: &Given) -> Result<CriuOptions, Failure> {
    Ok(CriuOptions {
        tcp_established: given.has("tcp-established"),
        tcp_close: given.has("tcp-close"),
        tcp_skip_in_flight: given.has("tcp-skip-in-flight"),
        link_remap: given.has("link-remap"),
        ext_unix_sk: given.has("ext-unix-sk"),
        shell_job: given.has("shell-job"),
        file_locks: given.has("file-locks"),
        auto_dedup: given.has("auto-dedup"),
        lazy_pages: given.has("lazy-pages"),
        manage_cgroups: given.filled("manage-cgroups-mode").map(cgroup_mode).transpose()?,
        network_lock: given.filled("network-lock").map(network_lock).transpose()?,
        empty_namespaces: given.all("empty-ns").map(namespace).try_fold(0, |all, one| one.map(|one| all | one))?,
    })
}

fn cgroup_mode(word: &str) -> Result<CgroupMode, Failure> {
    match word {
        "soft" => Ok(CgroupMode::Soft),
        "full" => Ok(CgroupMode::Full),
        "strict" => Ok(CgroupMode::Strict),
        "ignore" => Ok(CgroupMode::Ignore),
        _ => Err(Failure::new("invalid manage-cgroups-mode value")),
    }
}

fn network_lock(word: &str) -> Result<NetworkLock, Failure> {
    match word {
        "iptables" => Ok(NetworkLock::Iptables),
        "nftables" => Ok(NetworkLock::Nftables),
        "skip" => Ok(NetworkLock::Skip),
        _ => Err(Failure::new(format!("invalid network-lock value: {word}"))),
    }
}

/// The namespaces of the specification, as bits (clone(2)).
fn namespace(name: &str) -> Result<u32, Failure> {
    match name {
        "mount" => Ok(0x2_0000),
        "cgroup" => Ok(0x200_0000),
        "uts" => Ok(0x400_0000),
        "ipc" => Ok(0x800_0000),
        "user" => Ok(0x1000_0000),
        "pid" => Ok(0x2000_0000),
        "network" => Ok(0x4000_0000),
        "time" => Ok(0x80),
        _ => Err(Failure::new(format!("namespace {name:?} is not supported"))),
    }
}

fn page_server(text: &str) -> Result<(String, u16), Failure> {
    let wrong = || Failure::new("Use --page-server ADDRESS:PORT to specify page server");
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match (address, port.parse()) {
        ("", _) | (_, Err(_) | Ok(0)) => Err(wrong()),
        (address, Ok(port)) => Ok((address.to_owned(), port)),
    }
}

/// The caller's descriptor once more: it is known by its number alone.
fn status(given: &Given) -> Result<Option<OwnedFd>, Failure> {
    let Some(number) = given.number::<u32>("status-fd")? else { return Ok(None) };
    let wrong = format!("invalid --status-fd argument {number}");
    if !is_inherited(number) {
        return Err(Failure::new(format!("{wrong}: bad file descriptor")));
    }
    let opened = std::fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{number}"));
    opened.map(|file| Some(file.into())).map_err(|error| Failure::io(wrong, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Parsed, parse};

    fn given(line: &str) -> Given {
        match parse(COMMAND.flags, Order::Anywhere, line.split_whitespace().map(str::to_owned)) {
            Ok(Parsed::Given(given)) => given,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_become_options() {
        let line = "--tcp-established -ext-unix-sk --manage-cgroups-mode ignore --empty-ns network --empty-ns=ipc x";
        let expected = CriuOptions {
            tcp_established: true,
            ext_unix_sk: true,
            manage_cgroups: Some(CgroupMode::Ignore),
            empty_namespaces: 0x4800_0000,
            ..CriuOptions::default()
        };
        assert_eq!(options(&given(line)).unwrap(), expected);
        assert_eq!(options(&given("x")).unwrap(), CriuOptions::default());
        for (line, wrong) in [
            ("--manage-cgroups-mode props x", "invalid manage-cgroups-mode value"),
            ("--network-lock x x", "invalid network-lock value: x"),
            ("--empty-ns net x", "namespace \"net\" is not supported"),
        ] {
            assert_eq!(options(&given(line)).unwrap_err().to_string(), wrong);
        }
    }

    #[test]
    fn a_page_server_is_an_address_and_a_port() {
        for (text, expected) in [("h:1", ("h", 1)), ("[::1]:99", ("::1", 99)), ("10.0.0.1:65535", ("10.0.0.1", 65535))]
        {
            assert_eq!(page_server(text).unwrap(), (expected.0.to_owned(), expected.1));
        }
        for wrong in ["h", ":1", "h:", "h:0", "h:x", "h:70000"] {
            assert!(page_server(wrong).is_err(), "{wrong}");
        }
    }
}
