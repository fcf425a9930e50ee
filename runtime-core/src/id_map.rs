//! Id maps of user namespaces: compared, and held by namespaces that nobody lives in, for idmapped mounts. What
//! the maps are is the plan's business.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use tare_init::script::Op;
use tare_plan::{IdRange, Namespaces, Reach};

use crate::container::maps;
use crate::lower::point;
use crate::prepare::Users;
use crate::script::Script;
use crate::spawn::{GATE, Stand, spawn};
use crate::{Error, Kind};

/// A joined user namespace has to have the maps that the specification says it has: containerd repeats them beside its
/// path, and a container with others would find everything owned by nobody. The text is runc's.
pub(crate) fn check_claim(pid: i32, spaces: &Namespaces) -> Result<(), Error> {
    if spaces.claimed_uid_map.is_empty() && spaces.claimed_gid_map.is_empty() {
        return Ok(());
    }
    if read(pid, "uid_map")? == spaces.claimed_uid_map && read(pid, "gid_map")? == spaces.claimed_gid_map {
        return Ok(());
    }
    let what = "user namespaces enabled, but both namespace path and non-matching mapping specified -- \
                you may only provide one";
    Err(Error::new(Kind::Invalid, what))
}

fn read(pid: i32, file: &str) -> Result<Vec<IdRange>, Error> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))
        .map_err(|error| Error::io(format!("read {file} of the user namespace"), &error))?;
    let numbers = text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u32>>();
    let range = |words: &[u32]| match *words {
        [inside, outside, count] => Some(IdRange { inside, outside, count }),
        _ => None,
    };
    Ok(numbers.chunks(3).filter_map(range).collect())
}

/// A user namespace with these maps and nobody in it: the stub that makes it is gone when this returns.
pub(crate) fn namespace(uids: &[IdRange], gids: &[IdRange]) -> Result<OwnedFd, Error> {
    let mut script = Script::new();
    script.what("make a user namespace for an idmapped mount");
    script.push(Op::Unshare { kinds: libc::CLONE_NEWUSER.cast_unsigned() });
    script.push(Op::Sync { point: point::MAPS });
    let mut newborn = spawn(script)?;
    let Stand::Waiting(point::MAPS) = newborn.listen()? else {
        return Err(Error::new(Kind::System, "the stub did not wait for its id maps"));
    };
    let pid = newborn.process()?.pid();
    let spaces = Namespaces { uid_map: uids.to_vec(), gid_map: gids.to_vec(), ..Namespaces::default() };
    maps::give(&spaces, pid).map_err(|error| error.during("idmapped mount"))?;
    of_process(pid)
}

/// Maps the ids of a tree that is mounted nowhere, which the process `pid` has sent. A stub does it: it has the call.
pub(crate) fn map(tree: &OwnedFd, wanted: Option<&(Users, Reach)>, pid: i32) -> Result<(), Error> {
    let container;
    let (users, reach) = match wanted {
        Some((Users::Own(users), reach)) => (users.as_fd(), *reach),
        Some((Users::Container, reach)) => {
            container = of_process(pid)?;
            (container.as_fd(), *reach)
        }
        None => return Err(Error::new(Kind::System, "the stub has sent a tree whose ids nobody maps")),
    };
    let mut script = Script::new();
    script.what("map the ids of a tree");
    let (tree, users) = (script.inherit(tree.as_fd()), script.inherit(users));
    script.push(Op::IdMap { tree, recursive: u32::from(reach == Reach::Tree), users });
    script.push(Op::Report { point: GATE });
    let mut newborn = spawn(script)?;
    newborn.listen()?;
    newborn.keep()?.wait().map(drop)
}

/// The user namespace of a waiting child of ours.
pub(crate) fn of_process(pid: i32) -> Result<OwnedFd, Error> {
    let opened = rustix::fs::open(format!("/proc/{pid}/ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|errno| Error::system("open a user namespace", errno))
}
