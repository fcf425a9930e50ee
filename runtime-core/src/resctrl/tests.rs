//! resctrl as a folder: hardware that has it is rare.

use std::fs;
use std::path::PathBuf;

use tare_plan::{IntelRdt, RdtGroup, RdtResource};

use super::{Resctrl, mountpoint};
use crate::Kind;

/// What the file system shows at its top, and its removal.
struct Fake(PathBuf);

impl Fake {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tare-resctrl-{}-{name}", std::process::id()));
        for folder in ["info/L3", "info/MB", "mon_groups", "gold/mon_groups"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        fs::write(path.join("gold/schemata"), "    MB:0=100;1=100\n    L3:0=000ff;1=fffff\n").unwrap();
        Self(path)
    }

    fn plan(&self, rdt: &IntelRdt) -> Result<Resctrl, crate::Error> {
        Resctrl::plan(rdt, "c1", self.0.clone())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn rdt(group: RdtGroup, schemata: &[&str]) -> IntelRdt {
    let schemata = schemata.iter().map(|&line| line.to_owned()).collect();
    IntelRdt { group, schemata, needs: vec![], monitoring: false }
}

/// What the kernel would have made in a new group, and what it takes with it.
fn files(group: &std::path::Path, verb: fn(&std::path::Path)) {
    for name in ["tasks", "schemata"] {
        verb(&group.join(name));
    }
}

#[test]
fn a_group_of_its_own_is_made_and_taken_away() {
    let fake = Fake::new("own");
    let rdt = rdt(RdtGroup::Own, &["L3:0=ff", "MB:0=20"]);
    let resctrl = fake.plan(&rdt).unwrap();
    assert!(!fake.0.join("c1").exists(), "planning does nothing");
    resctrl.create(&rdt).unwrap();
    assert_eq!(fs::read_to_string(fake.0.join("c1/schemata")).unwrap(), "L3:0=ff\nMB:0=20\n");
    files(&fake.0.join("c1"), |path| drop(fs::OpenOptions::new().create(true).append(true).open(path)));
    assert_eq!(resctrl.tasks().unwrap().len(), 1);
    assert_eq!(fake.plan(&rdt).unwrap_err().kind(), Kind::Exists);
    resctrl.update(Some("L3:0=f"), None).unwrap();
    assert_eq!(fs::read_to_string(fake.0.join("c1/schemata")).unwrap(), "L3:0=f\n");
    files(&fake.0.join("c1"), |path| drop(fs::remove_file(path)));
    resctrl.remove().unwrap();
    assert!(!fake.0.join("c1").exists());
    resctrl.remove().unwrap();
}

#[test]
fn a_group_that_was_there_is_compared_and_stays() {
    let fake = Fake::new("named");
    let gold = || RdtGroup::Named("gold".into());
    for lines in [&[][..], &["L3:0=ff"], &["L3:1=FFFFF;0=0ff", "MB:0=100"]] {
        let rdt = rdt(gold(), lines);
        let resctrl = fake.plan(&rdt).unwrap();
        resctrl.create(&rdt).unwrap();
        resctrl.remove().unwrap();
        assert!(fake.0.join("gold").exists(), "{lines:?}");
    }
    for lines in [&["L3:0=fe"][..], &["L3:2=ff"], &["L2:0=f"]] {
        let rdt = rdt(gold(), lines);
        let error = fake.plan(&rdt).unwrap().create(&rdt).unwrap_err();
        assert!(error.to_string().contains("is not as in"), "{error}");
    }
    let error = fake.plan(&rdt(RdtGroup::Named("new".into()), &[])).unwrap_err();
    assert!(error.to_string().contains("does not exist, and there is no schema"), "{error}");
}

#[test]
fn a_named_group_that_was_made_stays_while_it_is_used() {
    let fake = Fake::new("used");
    let rdt = rdt(RdtGroup::Named("silver".into()), &["L3:0=1"]);
    let resctrl = fake.plan(&rdt).unwrap();
    resctrl.create(&rdt).unwrap();
    fs::remove_file(fake.0.join("silver/schemata")).unwrap();
    fs::write(fake.0.join("silver/tasks"), "4711\n").unwrap();
    resctrl.remove().unwrap();
    assert!(fake.0.join("silver").exists());
    fs::remove_file(fake.0.join("silver/tasks")).unwrap();
    resctrl.remove().unwrap();
    assert!(!fake.0.join("silver").exists());
}

#[test]
fn monitoring_has_a_group_of_the_containers_own() {
    let fake = Fake::new("monitor");
    for (group, place) in [(RdtGroup::Top, "mon_groups/c1"), (RdtGroup::Named("gold".into()), "gold/mon_groups/c1")] {
        let rdt = IntelRdt { monitoring: true, ..rdt(group, &[]) };
        let resctrl = fake.plan(&rdt).unwrap();
        fs::write(fake.0.join("schemata"), "").unwrap();
        resctrl.create(&rdt).unwrap();
        assert!(fake.0.join(place).is_dir());
        resctrl.remove().unwrap();
        assert!(!fake.0.join(place).exists() && fake.0.join("gold").exists());
    }
}

#[test]
fn what_the_hardware_lacks_is_refused() {
    let fake = Fake::new("lacks");
    fs::remove_dir(fake.0.join("info/L3")).unwrap();
    fs::remove_dir(fake.0.join("info/MB")).unwrap();
    let rows = [(RdtResource::Cache, "RDT/CAT is not enabled"), (RdtResource::Bandwidth, "RDT/MBA is not enabled")];
    for (need, text) in rows {
        let error = fake.plan(&IntelRdt { needs: vec![need], ..rdt(RdtGroup::Own, &[]) }).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    fs::write(fake.0.join("info/last_cmd_status"), "Unknown resource\n").unwrap();
    fs::create_dir(fake.0.join("c2")).unwrap();
    let resctrl = Resctrl { root: fake.0.clone(), group: fake.0.join("nowhere"), made: true, monitor: None };
    let error = resctrl.write(&["X:0=1".into()]).unwrap_err();
    assert!(error.to_string().contains("(Unknown resource)"), "{error}");
}

#[test]
fn the_mount_is_found_wherever_it_is() {
    let table = "22 1 0:20 / /proc rw - proc proc rw\n30 1 0:25 / /mnt/rdt rw,nosuid shared:9 - resctrl resctrl rw\n";
    assert_eq!(mountpoint(table), Some(PathBuf::from("/mnt/rdt")));
    assert_eq!(mountpoint("22 1 0:20 / /proc rw - proc resctrl rw\n"), None);
}
