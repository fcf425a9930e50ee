//! Where a process of a container runs: on which processors, in which cgroup.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::path::{Path, PathBuf};

use bundle::{Bundle, captured, config, silent, text, wait};
use runtime_core::cgroup::SubCgroup;
use runtime_core::{Container, Exec};

/// The directories of a cgroup in every hierarchy that has it.
fn directories(path: &str) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounted = table.lines().filter(|line| line.contains(" - cgroup ") || line.contains(" - cgroup2 "));
    let points = mounted.filter_map(|line| line.split(' ').nth(4));
    points.map(|point| Path::new(point).join(path.trim_start_matches('/'))).filter(|one| one.is_dir()).collect()
}

fn exec(container: &Container, script: &str, places: &[(&[&str], &str)]) -> Result<String, String> {
    let mut process: runtime_core::oci::Process = serde_json::from_value(config(script)["process"].clone()).unwrap();
    process.set_cwd("/".into());
    let (reader, stdio) = captured();
    let sub_cgroups = places.iter().map(|(controllers, path)| SubCgroup {
        controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        path: (*path).to_owned(),
    });
    let request = Exec { sub_cgroups: sub_cgroups.collect(), ..Exec::new(process, stdio) };
    let process = container.exec(request).map_err(|error| error.to_string())?;
    let output = text(reader);
    wait(&process);
    Ok(output)
}

#[test]
fn a_caller_that_is_bound_to_a_processor_does_not_bind_the_container() {
    let all = std::thread::available_parallelism().unwrap().get();
    let bound = std::thread::spawn(|| {
        let mut one = rustix::thread::CpuSet::new();
        one.set(0);
        rustix::thread::sched_setaffinity(None, &one).unwrap();
        let bundle = Bundle::new("affinity");
        let (_, output) = bundle.run(&config("nproc"));
        output
    });
    assert_eq!(bound.join().unwrap().trim(), all.to_string());
}

/// The kernel counts how often a cgroup has been killed, and some kill whoever is born into one with another count than
/// that of where he comes from.
#[test]
fn a_cgroup_that_has_been_killed_before_takes_a_container_and_its_execs() {
    let bundle = Bundle::new("killed");
    let path = format!("/tare-core-{}", bundle.id());
    let mut config = config("exec sleep 1000");
    config["linux"]["cgroupsPath"] = path.clone().into();
    let cgroup =
        runtime_core::cgroup::Cgroup::plan(&runtime_core::cgroup::layout().unwrap(), Path::new(&path)).unwrap();
    cgroup.create().unwrap();
    let Some(kill) = directories(&path).into_iter().map(|one| one.join("cgroup.kill")).find(|file| file.exists())
    else {
        println!("skipped: no cgroup2 hierarchy is mounted");
        cgroup.remove().unwrap();
        return;
    };
    std::fs::write(&kill, "1").unwrap();
    let (container, process) = bundle.create(&config, silent()).unwrap();
    container.start().unwrap();
    assert!(exec(&container, "cat /proc/self/cgroup", &[]).unwrap().contains(&path));
    // And one below.
    let sub = kill.parent().unwrap().join("sub");
    std::fs::create_dir(&sub).unwrap();
    std::fs::write(sub.join("cgroup.kill"), "1").unwrap();
    if directories(&path).len() == 1 {
        assert!(exec(&container, "cat /proc/self/cgroup", &[(&[], "sub")]).unwrap().contains("/sub"));
    }
    container.signal(libc::SIGKILL).unwrap();
    wait(&process);
    container.delete().unwrap();
}

#[test]
fn an_exec_joins_the_cgroup_it_is_told_to() {
    let bundle = Bundle::new("subcgroup");
    let (container, process) = bundle.create(&config("exec sleep 1000"), silent()).unwrap();
    container.start().unwrap();
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid())).unwrap();
    let path = own.lines().find_map(|line| line.split(':').nth(2).filter(|path| path.contains("subcgroup"))).unwrap();
    let made: Vec<_> = directories(path).into_iter().map(|one| one.join("sub")).collect();
    made.iter().for_each(|directory| std::fs::create_dir_all(directory).unwrap());
    for (controllers, directory) in [("cpuset", "cpus"), ("cpuset", "mems")] {
        // A version 1 cpuset takes no process before it has both.
        for one in made.iter().filter(|one| one.to_string_lossy().contains(controllers)) {
            let name = format!("cpuset.{directory}");
            let value = std::fs::read_to_string(one.parent().unwrap().join(&name)).unwrap();
            std::fs::write(one.join(&name), value).unwrap();
        }
    }
    let inside = exec(&container, "cat /proc/self/cgroup", &[(&[], "sub")]).unwrap();
    assert!(inside.lines().filter(|line| line.ends_with("/sub")).count() >= made.len(), "{inside}");
    let refusals = [
        (exec(&container, "exit 0", &[(&[], "..")]), "bad sub cgroup path: .."),
        (exec(&container, "exit 0", &[(&["whaaat"], "/")]), "unknown controller whaaat in --cgroup"),
    ];
    for (refused, said) in refusals {
        assert_eq!(refused.unwrap_err(), said);
    }
    let absent = exec(&container, "exit 0", &[(&[], "absent")]).unwrap_err();
    assert!(absent.starts_with("adding pid "), "{absent}");
    assert!(absent.contains("no such file or directory"), "{absent}");
    assert!(exec(&container, "echo here", &[(&[], "/")]).unwrap() == "here\n");
    container.signal(libc::SIGKILL).unwrap();
    wait(&process);
    container.delete().unwrap();
}

/// Its maker died between the record and the cgroup, and somebody else was there before it was deleted.
#[test]
fn a_cgroup_that_was_only_planned_is_left_to_whoever_took_it() {
    let bundle = Bundle::new("planned");
    let (container, process) = bundle.create(&config("exec sleep 1000"), silent()).unwrap();
    container.start().unwrap();
    let record = std::fs::read(bundle.0.join("state.json")).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid())).unwrap();
    let path = own.lines().find_map(|line| line.split(':').nth(2).filter(|path| path.contains("planned"))).unwrap();
    let there = directories(path);
    record["cgroup_to_be"] = std::mem::replace(&mut record["cgroup"], serde_json::json!({ "legacy": [] }));
    record["init_process_pid"] = 0.into();
    let planned = bundle.folder("of-another");
    let plan = || std::fs::write(planned.join("state.json"), record.to_string()).unwrap();
    plan();
    assert!(runtime_core::remove(&planned).unwrap().is_some());
    assert_eq!((directories(path), process.try_wait().unwrap()), (there.clone(), None));
    container.delete().unwrap();
    wait(&process);
    assert_eq!(directories(path), Vec::<PathBuf>::new());
    // Nobody has taken it.
    there.iter().for_each(|directory| std::fs::create_dir(directory).unwrap());
    plan();
    assert!(runtime_core::remove(&planned).unwrap().is_some());
    assert_eq!(directories(path), Vec::<PathBuf>::new());
}
