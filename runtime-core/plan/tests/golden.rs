//! Each `golden/NAME.json` is planned for a host with cgroup version 2 and for one with version 1, and printed; the text
//! has to be `golden/NAME.v2.plan` and `golden/NAME.v1.plan`. `TARE_BLESS=1 cargo test -p tare-plan` renews those files:
//! then `git diff` shows what a change does to a container.

use std::error::Error;
use std::path::{Path, PathBuf};

use tare_plan::{CgroupLayout, Choices, Hierarchy, Host, container};

fn host(cgroups: CgroupLayout) -> Host {
    Host {
        cgroups,
        last_capability: 40,
        euid: 0,
        egid: 0,
        setgroups_denied: false,
        apparmor: false,
        selinux: false,
        in_user_namespace: false,
    }
}

fn version_2() -> Host {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"].map(str::to_owned).to_vec();
    host(CgroupLayout::Unified { mountpoint: PathBuf::from("/sys/fs/cgroup"), controllers })
}

/// The usual hybrid layout: controllers that share a hierarchy, systemd's named one, and cgroup2 beside them.
fn version_1() -> Host {
    let hierarchy = |folder: &str, controllers: &[&str]| Hierarchy {
        controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        mountpoint: Path::new("/sys/fs/cgroup").join(folder),
        own: PathBuf::from("/"),
    };
    let hierarchies = vec![
        hierarchy("systemd", &["name=systemd"]),
        hierarchy("cpu,cpuacct", &["cpu", "cpuacct"]),
        hierarchy("memory", &["memory"]),
        hierarchy("pids", &["pids"]),
        hierarchy("devices", &["devices"]),
    ];
    host(CgroupLayout::Legacy { hierarchies, unified: Some(PathBuf::from("/sys/fs/cgroup/unified")) })
}

/// The plan of the specification in `path` as text.
fn planned(path: &Path, host: &Host) -> Result<String, Box<dyn Error>> {
    let spec = serde_json::from_slice(&std::fs::read(path)?)?;
    let choices = Choices {
        id: "c1".to_owned(),
        bundle: PathBuf::from("/run/bundle"),
        default_cgroup_parent: PathBuf::from("/tare"),
        systemd: None,
    };
    Ok(container(&spec, &choices, host)?.to_string())
}

/// What differs between the recorded and the present plan of one specification, or nothing.
fn difference(path: &Path, suffix: &str, host: &Host) -> Result<Option<String>, Box<dyn Error>> {
    let text = planned(path, host).map_err(|error| format!("{}: {error}", path.display()))?;
    let recorded = path.with_extension(suffix);
    if std::env::var_os("TARE_BLESS").is_some() {
        std::fs::write(&recorded, &text)?;
        return Ok(None);
    }
    let expected = std::fs::read_to_string(&recorded).unwrap_or_default();
    if expected == text {
        return Ok(None);
    }
    let gone =
        expected.lines().filter(|line| !text.lines().any(|other| other == *line)).map(|line| format!("- {line}"));
    let new = text.lines().filter(|line| !expected.lines().any(|other| other == *line)).map(|line| format!("+ {line}"));
    let lines: Vec<String> = gone.chain(new).collect();
    Ok(Some(format!("{}\n{}", recorded.display(), lines.join("\n"))))
}

#[test]
fn plans_are_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = std::fs::read_dir(folder).expect("the golden folder");
    let mut specs: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    specs.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    specs.sort();
    assert!(specs.len() >= 6, "the golden specifications are gone");
    let mut differences = Vec::new();
    for path in specs {
        for (suffix, host) in [("v2.plan", version_2()), ("v1.plan", version_1())] {
            differences.extend(difference(&path, suffix, &host).expect("a plan"));
        }
    }
    let how = "run `TARE_BLESS=1 cargo test -p tare-plan --test golden` to record the new plans, and read the diff";
    assert!(differences.is_empty(), "{}\n{how}", differences.join("\n\n"));
}

/// Law 1: hash maps in the specification must not show.
#[test]
fn equal_specifications_give_equal_plans() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/everything.json");
    let first = planned(&path, &version_2()).expect("a plan");
    for _ in 0..32 {
        assert_eq!(planned(&path, &version_2()).expect("a plan"), first);
    }
}
