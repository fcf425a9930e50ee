//! Relays over real pipes, files and FIFOs.

use super::*;
use std::io::Read;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A pipe as a container has it: a blocking write end, and a read end for the relay.
fn pipe() -> (OwnedFd, File) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    rustix::io::ioctl_fionbio(&read, true).unwrap();
    (read, write.into())
}

async fn finished(relay: &Relay) {
    let wait = async {
        while !relay.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap();
}

#[test]
fn every_byte_is_spliced_in_order_and_the_end_is_passed_on() {
    runtime().block_on(async {
        let (source, mut writer) = pipe();
        let (reader, sink) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let relay = Relay::splice(source, Outlet::pipe(sink).unwrap()).unwrap();
        let expected: Vec<u8> = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let sent = expected.clone();
        let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            File::from(reader).read_to_end(&mut all).unwrap();
            all
        });
        finished(&relay).await;
        writing.join().unwrap();
        assert!(reading.join().unwrap() == expected);
    });
}

#[test]
fn a_reader_that_sleeps_makes_the_writer_wait_and_nothing_is_lost() {
    runtime().block_on(async {
        let (source, mut writer) = pipe();
        let (reader, sink) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let relay = Relay::splice(source, Outlet::pipe(sink).unwrap()).unwrap();
        let writing = std::thread::spawn(move || writer.write_all(&vec![7; 1 << 20]).unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!writing.is_finished());
        assert!(!relay.is_quiet());
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            File::from(reader).read_to_end(&mut all).unwrap();
            all.len()
        });
        finished(&relay).await;
        assert_eq!(reading.join().unwrap(), 1 << 20);
    });
}

#[test]
fn what_was_written_is_passed_on_though_another_holds_the_pipe() {
    runtime().block_on(async {
        let (source, mut writer) = pipe();
        let (reader, sink) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let io = super::super::Io {
            outputs: vec![Relay::splice(source, Outlet::pipe(sink).unwrap()).unwrap()],
            ..Default::default()
        };
        writer.write_all(b"last words").unwrap();
        timeout(Duration::from_millis(500), io.finish()).await.unwrap();
        let mut all = String::new();
        File::from(reader).read_to_string(&mut all).unwrap();
        assert_eq!(all, "last words");
        drop(writer);
    });
}

#[test]
fn a_file_gets_everything_and_a_full_one_stops_nobody() {
    runtime().block_on(async {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log");
        for sink in [path.as_path(), std::path::Path::new("/dev/full")] {
            let (source, mut writer) = pipe();
            let file = File::options().append(true).create(true).open(sink).unwrap();
            let relay = Relay::splice(source, Outlet::file(file)).unwrap();
            let writing = std::thread::spawn(move || writer.write_all(&vec![7; 1 << 20]).unwrap());
            finished(&relay).await;
            writing.join().unwrap();
        }
        assert_eq!(path.metadata().unwrap().len(), 1 << 20);
    });
}

#[test]
fn a_reader_that_comes_late_gets_everything_and_the_end() {
    let folder = std::env::temp_dir().join(format!("tare-late-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let outlet = Outlet::Fifo(path.clone());
    runtime().block_on(async {
        let (source, mut writer) = pipe();
        let relay = Relay::splice(source, outlet).unwrap();
        writer.write_all(b"said and gone").unwrap();
        drop(writer);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!relay.is_quiet(), "there is somebody to wait for");
        let reading = std::thread::spawn(move || std::fs::read_to_string(path).unwrap());
        finished(&relay).await;
        relay.end().await;
        assert_eq!(reading.join().unwrap(), "said and gone");
    });
    std::fs::remove_dir_all(folder).unwrap();
}
