//! `start`: brings up the shim of a container's group, or finds it, and says where it listens.
//!
//! Nothing is ever written to standard error but the reason of a failure: containerd reads both streams as the answer.

mod address;
mod daemon;
mod dialect;
mod socket;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

pub(crate) use daemon::foreground;
pub(crate) use socket::{leave, remove_stale};

use crate::flags::Flags;
use crate::options;
use crate::serve::Serve;
use dialect::{Asked, Environment};
use socket::Claim;

/// Options are small; whatever is longer is not from containerd.
const INPUT_LIMIT: u64 = 4 << 20;

/// The file in the bundle that says where its shim listens; containerd up to 1.7, CRI-O and `delete` read it.
const ADDRESS_FILE: &str = "address";

/// Answers `start`. In the forked child it returns what is to be served instead.
///
/// # Errors
/// Why no shim could be brought up, for people.
pub(crate) fn start(flags: &Flags) -> Result<Option<daemon::Ready>, String> {
    let mut input = Vec::new();
    io::stdin().take(INPUT_LIMIT).read_to_end(&mut input).map_err(|error| format!("read standard input: {error}"))?;
    let asked = dialect::read(flags, &environment(), &input);
    let bundle = bundle(flags)?;
    let group = address::group(&bundle, &flags.id);
    let directory = asked.socket_directory.as_deref().unwrap_or(address::DIRECTORY);
    let path = PathBuf::from(address::socket(directory, &asked.grpc, &flags.namespace, &group));
    let url = format!("unix://{}", path.display());

    match socket::claim(&path).map_err(|error| format!("claim {}: {error}", path.display()))? {
        Claim::Theirs => {}
        Claim::Ours(bound) => {
            let shim_cgroup = shim_cgroup(&asked)?;
            let placement = daemon::Placement::decide(shim_cgroup);
            match daemon::fork(bound, &bundle, &placement)? {
                daemon::Side::Child { listener, path, ready } => {
                    let serve = serve(flags, asked, listener, path);
                    return Ok(Some(daemon::Ready { serve, tell: ready }));
                }
                daemon::Side::Parent => {}
            }
        }
    }
    write_address(&bundle, &url).map_err(|error| format!("write {ADDRESS_FILE}: {error}"))?;
    let answer = dialect::answer(asked.dialect, &url);
    io::stdout().write_all(&answer).map_err(|error| format!("write the answer: {error}"))?;
    Ok(None)
}

/// What `-socket PATH` without an action asks for: serving there, in the foreground.
///
/// # Errors
/// There is no path, or somebody else serves there.
pub(crate) fn direct(flags: &Flags) -> Result<Serve, String> {
    if flags.socket.as_os_str().is_empty() {
        return Err("nothing to do: start, delete, -info, -version, or -socket PATH to serve".into());
    }
    let asked = dialect::read(flags, &environment(), b"");
    match socket::claim(&flags.socket).map_err(|error| format!("claim {}: {error}", flags.socket.display()))? {
        Claim::Theirs => Err(format!("{} is served by another shim", flags.socket.display())),
        Claim::Ours(bound) => {
            let (listener, path) = bound.keep().map_err(|error| format!("listener: {error}"))?;
            Ok(serve(flags, asked, listener, path))
        }
    }
}

/// The bundle that containerd names, or runs us in.
///
/// # Errors
/// There is no working directory.
pub(crate) fn bundle(flags: &Flags) -> Result<PathBuf, String> {
    let here = std::env::current_dir().map_err(|error| format!("working directory: {error}"))?;
    Ok(here.join(&flags.bundle))
}

/// Where the shim of `bundle` listened, as it wrote itself.
#[must_use]
pub(crate) fn known_socket(bundle: &Path) -> Option<PathBuf> {
    let url = std::fs::read_to_string(bundle.join(ADDRESS_FILE)).ok()?;
    url.trim().strip_prefix("unix://").map(PathBuf::from)
}

fn environment() -> Environment {
    Environment { ttrpc_address: std::env::var("TTRPC_ADDRESS").ok(), grpc_address: std::env::var("GRPC_ADDRESS").ok() }
}

fn serve(flags: &Flags, asked: Asked, listener: std::os::unix::net::UnixListener, path: PathBuf) -> Serve {
    Serve {
        listener,
        socket: path,
        namespace: flags.namespace.clone(),
        events: asked.events,
        verbosity: flags.verbosity,
        id: flags.id.clone(),
    }
}

/// The cgroup that the options want the shim in. Options that cannot be read are refused by Create.
fn shim_cgroup(asked: &Asked) -> Result<Option<String>, String> {
    let Some(any) = &asked.options else { return Ok(None) };
    let options = options::read(any).unwrap_or_default();
    Ok(Some(options.shim_cgroup).filter(|path| !path.is_empty()))
}

/// Writes the address for those that look for a file, whole or not at all.
fn write_address(bundle: &Path, url: &str) -> io::Result<()> {
    let (temporary, final_) = (bundle.join(".address"), bundle.join(ADDRESS_FILE));
    std::fs::write(&temporary, url)?;
    std::fs::rename(&temporary, &final_)
}
