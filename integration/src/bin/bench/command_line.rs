//! The OCI runtimes by their command line, without containerd: `run`, `create` + `start` + `delete`, `exec`, memory and
//! system calls. Interleaved like the rest; what is measured is the whole process, as a shell would see it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::leftovers::HOMES;
use integration::{machine, spec};

use crate::measure::{SECCOMP, counts_instructions, median, milliseconds};

/// A runtime, and what it took.
struct Contender {
    name: String,
    program: PathBuf,
    folder: PathBuf,
    /// Where its state is: on tmpfs, as `/run` is.
    state: PathBuf,
    figures: BTreeMap<&'static str, Vec<f64>>,
}

/// The lines of the table, and the goals of performance.md.
const ROWS: [(&str, &str, Option<f64>); 8] = [
    ("run", "run, ms", Some(4.5)),
    ("plain", "run without seccomp, ms", Some(4.2)),
    ("cycle", "create + start + delete, ms", Some(7.0)),
    ("exec", "exec, ms", Some(2.8)),
    ("cpu", "machine CPU of run, ms (mean)", Some(4.5)),
    ("peak", "peak RSS of run, MB", Some(1.5)),
    ("calls", "system calls of run", None),
    ("execcalls", "system calls of exec", None),
];

/// Measures every runtime that is there; the table.
pub(crate) fn measure(samples: usize) -> Result<String> {
    let own = format!("tare-bench-cli-{}", std::process::id());
    let (home, states) = (std::env::temp_dir().join(&own), Path::new(HOMES).join(&own));
    let mut contenders = Vec::new();
    for (name, program) in installed() {
        let (folder, state) = (home.join(&name), states.join(&name));
        contenders.push(Contender::new(name, program, folder, state)?);
    }
    let measured = contenders.iter_mut().try_for_each(Contender::weigh).and_then(|()| rounds(&mut contenders, samples));
    let table = measured.map(|()| render(&contenders));
    for folder in [home, states] {
        std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    table
}

fn installed() -> Vec<(String, PathBuf)> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers");
    let from = |variable: &str, otherwise: PathBuf| std::env::var_os(variable).map_or(otherwise, PathBuf::from);
    let all = [
        ("tare", from("TARE_CLI", PathBuf::from("target/release/tare"))),
        ("runc", from("TARE_RUNC", PathBuf::from("/usr/sbin/runc"))),
        ("runc 1.3", peers.join("runc-1.3/bin/runc")),
        ("crun", from("TARE_CRUN", PathBuf::from("/usr/bin/crun"))),
        ("crun 1.28", peers.join("crun-1.28/bin/crun")),
    ];
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only.split(',').any(|one| name.starts_with(one));
    let (present, absent): (Vec<_>, Vec<_>) =
        all.into_iter().filter(|(name, _)| wanted(name)).partition(|(_, program)| program.exists());
    for (name, program) in absent {
        eprintln!("bench: {name} is not here ({}) and is left out", program.display());
    }
    present.into_iter().map(|(name, program)| (name.to_owned(), program)).collect()
}

fn rounds(contenders: &mut [Contender], samples: usize) -> Result<()> {
    for contender in contenders.iter() {
        contender.launch("exec", "sleeper")?;
    }
    // The first round of each warms caches and is not counted.
    for round in 0..=samples {
        for contender in contenders.iter_mut() {
            let took = contender.round()?;
            if round > 0 {
                took.into_iter().for_each(|(key, value)| contender.add(key, value));
            }
        }
    }
    for contender in contenders.iter() {
        contender.quietly(&["delete", "--force", "exec"])?;
    }
    Ok(())
}

impl Contender {
    fn new(name: String, program: PathBuf, folder: PathBuf, state: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&state)?;
        for (bundle, args, filtered) in [
            ("true", &["true"][..], true),
            ("plain", &["true"], false),
            ("cat", &["cat"], true),
            ("sleeper", &["sleep", "1000"], true),
        ] {
            let place = folder.join(bundle);
            integration::unpack_image(&place.join("rootfs"))?;
            let mut config = spec::default("tare-bench-cli", &format!("{}-{bundle}", name.replace(' ', "-")));
            config["root"]["readonly"] = true.into();
            spec::args(&mut config, args);
            if filtered {
                config["linux"]["seccomp"] = serde_json::from_str(SECCOMP)?;
            }
            std::fs::write(place.join("config.json"), config.to_string())?;
        }
        Ok(Self { name, program, folder, state, figures: BTreeMap::new() })
    }

    fn add(&mut self, key: &'static str, value: f64) {
        self.figures.entry(key).or_default().push(value);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.state).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn quietly(&self, arguments: &[&str]) -> Result<()> {
        let status = self.command(arguments).status().with_context(|| format!("run {}", self.program.display()))?;
        ensure!(status.success(), "{} {}: {status}", self.name, arguments.join(" "));
        Ok(())
    }

    fn bundle(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    fn launch(&self, id: &str, bundle: &str) -> Result<()> {
        self.quietly(&["create", "--bundle", &self.bundle(bundle), id])?;
        self.quietly(&["start", id])
    }

    /// One sample of everything that takes time.
    fn round(&self) -> Result<Vec<(&'static str, f64)>> {
        let pause = || std::thread::sleep(Duration::from_millis(40));
        pause();
        let busy = machine::busy_ticks();
        let run = self.timed(&["run", "--bundle", &self.bundle("true"), "run"])?;
        std::thread::sleep(Duration::from_millis(20));
        let ticks = u32::try_from(machine::busy_ticks() - busy).map_or(f64::MAX, f64::from);
        pause();
        let plain = self.timed(&["run", "--bundle", &self.bundle("plain"), "plain"])?;
        pause();
        let began = Instant::now();
        self.launch("cycle", "true")?;
        let started = milliseconds(began);
        // Its end is nobody's work here; a delete of what still runs would be refused.
        pause();
        let cycle = started + self.timed(&["delete", "cycle"])?;
        pause();
        let exec = self.timed(&["exec", "exec", "true"])?;
        Ok(vec![("run", run), ("cpu", ticks * 10.0), ("plain", plain), ("cycle", cycle), ("exec", exec)])
    }

    fn timed(&self, arguments: &[&str]) -> Result<f64> {
        let began = Instant::now();
        self.quietly(arguments)?;
        Ok(milliseconds(began))
    }

    /// What takes no clock: memory, while the container waits for input, and system calls, where strace is.
    fn weigh(&mut self) -> Result<()> {
        let mut running =
            self.command(&["run", "--bundle", &self.bundle("cat"), "peak"]).stdin(Stdio::piped()).spawn()?;
        let peak = self.peak(&running);
        drop(running.stdin.take());
        running.wait()?;
        self.add("peak", peak?);
        if !Path::new("/usr/bin/strace").exists() {
            eprintln!("bench: strace is not here; system calls are not counted");
            return Ok(());
        }
        let run = self.bundle("true");
        let calls = self.calls(&["run", "--bundle", &run, "calls"])?;
        self.add("calls", calls);
        self.launch("exec", "sleeper")?;
        let calls = self.calls(&["exec", "exec", "true"]);
        self.quietly(&["delete", "--force", "exec"])?;
        self.add("execcalls", calls?);
        Ok(())
    }

    /// The high-water mark of the process in the foreground, once its container stands.
    fn peak(&self, running: &Child) -> Result<f64> {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            let state = self.command(&["state", "peak"]).stdout(Stdio::piped()).stderr(Stdio::null()).output()?;
            if String::from_utf8_lossy(&state.stdout).contains("\"running\"") {
                std::thread::sleep(Duration::from_millis(50));
                let mark = machine::status(running.id(), "VmHWM").context("the runtime is gone")?;
                let kib: f64 = mark.trim_end_matches(" kB").trim().parse()?;
                return Ok(kib * 1024.0 / 1_000_000.0);
            }
        }
        anyhow::bail!("{} has not brought a container up in 10 s", self.name)
    }

    /// All calls of the runtime and what it starts, the container's own program included.
    fn calls(&self, arguments: &[&str]) -> Result<f64> {
        let log = self.folder.join("calls");
        let mut command = Command::new("/usr/bin/strace");
        command.args(["-f", "-c", "-o"]).arg(&log).arg(&self.program).arg("--root").arg(&self.state);
        let status = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{} under strace: {status}", self.name);
        let text = std::fs::read_to_string(&log)?;
        let total = text.lines().find(|line| line.ends_with(" total")).context("strace counted nothing")?;
        let count = total.split_whitespace().nth(3).context("strace's total has no count")?;
        Ok(count.parse()?)
    }
}

fn render(contenders: &[Contender]) -> String {
    let mut text = format!("\nThe command line; medians.\n\n{:<31}", "");
    for contender in contenders {
        let _ = write!(text, "{:>11}", contender.name);
    }
    for peer in contenders.iter().skip(1) {
        let _ = write!(text, "{:>14}", format!("vs {}", peer.name));
    }
    let _ = writeln!(text, "{:>8}", "goal");
    for (key, title, goal) in ROWS {
        let middle = |contender: &Contender| match (key, contender.figures.get(key)) {
            (_, None) => f64::NAN,
            ("cpu", Some(values)) => values.iter().sum::<f64>() / f64::from(u32::try_from(values.len()).unwrap_or(1)),
            (_, Some(values)) => median(values.clone()),
        };
        let values: Vec<f64> = contenders.iter().map(middle).collect();
        let _ = write!(text, "{title:<31}");
        values.iter().for_each(|value| {
            let _ = write!(text, "{value:>11.2}");
        });
        let own = values.first().copied().unwrap_or(f64::NAN);
        values.iter().skip(1).for_each(|peer| {
            let _ = write!(text, "{:>14}", format!("{:.1}x", peer / own));
        });
        let met = goal
            .filter(|_| !counts_instructions())
            .map(|goal| format!("{:>8} {}", format!("<={goal}"), if own <= goal { "met" } else { "NOT met" }));
        let _ = writeln!(text, "{}", met.unwrap_or_default());
    }
    text
}
