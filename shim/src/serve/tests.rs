//! The server against clients of both versions, and against clients that mean harm.

use std::time::Instant;

use protos::api::{ConnectRequest, ConnectResponse, StateRequest};
use protos::protobuf::Message;
use protos::ttrpc::proto::{Request, Response};
use protos::ttrpc::{Code, MessageHeader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

fn with_server<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    runtime().unwrap().block_on(async {
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let door = Door { listener, clients: Clients::default(), reserve: reserve(), pause: None };
        let service = Service::new(Events::to("", "ns"), "ns", &path);
        let mut server = Server::new().add_listener(Listener::new(door)).register_service(both(&service));
        server.start().await.unwrap();
        test(path).await;
    });
}

fn frame(stream: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let header = MessageHeader { length, stream_id: stream, type_: kind, flags: 0 };
    let mut frame: Vec<u8> = header.into();
    frame.extend(payload);
    frame
}

fn request(service: &str, method: &str, payload: Vec<u8>) -> Vec<u8> {
    let mut request = Request::new();
    request.service = service.into();
    request.method = method.into();
    request.payload = payload;
    request.write_to_bytes().unwrap()
}

async fn response(stream: &mut UnixStream) -> (u32, Response) {
    let mut header = [0; 10];
    timeout(Duration::from_secs(5), stream.read_exact(&mut header)).await.unwrap().unwrap();
    let header = MessageHeader::from(header);
    let mut payload = vec![0; usize::try_from(header.length).unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    (header.stream_id, Response::parse_from_bytes(&payload).unwrap())
}

/// The connection still answers: a task that is not there is not found.
async fn is_alive(stream: &mut UnixStream, number: u32) {
    let state = StateRequest { id: "nobody".into(), ..StateRequest::new() }.write_to_bytes().unwrap();
    stream.write_all(&frame(number, 1, &request("containerd.task.v2.Task", "State", state))).await.unwrap();
    let (stream, response) = response(stream).await;
    assert_eq!((stream, response.status().code()), (number, Code::NOT_FOUND));
    assert_eq!(response.status().message(), "container not created");
}

#[test]
fn both_versions_of_the_task_api_are_served() {
    with_server(async |path| {
        let mut stream = UnixStream::connect(path).await.unwrap();
        for (number, version) in [(1, "v2"), (3, "v3")] {
            let connect = ConnectRequest::new().write_to_bytes().unwrap();
            let service = format!("containerd.task.{version}.Task");
            stream.write_all(&frame(number, 1, &request(&service, "Connect", connect))).await.unwrap();
            let (_, response) = response(&mut stream).await;
            let pid = ConnectResponse::parse_from_bytes(&response.payload).unwrap().shim_pid;
            assert_eq!(pid, std::process::id(), "{version}");
        }
    });
}

#[test]
fn hostile_frames_are_answered_or_the_connection_closed() {
    with_server(async |path| {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        for hostile in [
            frame(2, 1, &request("containerd.task.v2.Task", "State", vec![])),
            frame(5, 1, b"\xff\xff\xff\xff"),
            frame(7, 1, &request("no.Service", "State", vec![])),
            frame(9, 1, &request("containerd.task.v2.Task", "NoMethod", vec![])),
            frame(11, 1, &request("containerd.task.v2.Task", "State", vec![0xff; 64])),
            frame(13, 3, b"data on a stream that never was"),
        ] {
            stream.write_all(&hostile).await.unwrap();
            let (_, response) = response(&mut stream).await;
            assert_ne!(response.status().code(), Code::OK);
        }
        // Of unknown types nothing is said.
        stream.write_all(&frame(15, 9, b"what")).await.unwrap();
        stream.write_all(&frame(17, 0, b"")).await.unwrap();
        is_alive(&mut stream, 19).await;
        // Deeply nested groups, which a parser without a limit would follow down its stack.
        stream.write_all(&frame(21, 1, &vec![0x0b; 1 << 20])).await.unwrap();
        assert_ne!(response(&mut stream).await.1.status().code(), Code::OK);
        is_alive(&mut stream, 23).await;
    });
}

#[test]
fn a_frame_that_is_too_long_is_refused_and_the_next_is_understood() {
    with_server(async |path| {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let long = frame(1, 1, &vec![0; (4 << 20) + 1]);
        stream.write_all(&long).await.unwrap();
        assert_eq!(response(&mut stream).await.1.status().code(), Code::INVALID_ARGUMENT);
        is_alive(&mut stream, 3).await;
    });
}

#[test]
fn a_broken_or_silent_client_does_not_disturb_others() {
    with_server(async |path| {
        let mut silent = Vec::new();
        for _ in 0..50 {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(&frame(1, 1, &[0; 100])[..30]).await.unwrap();
            silent.push(stream);
        }
        let began = Instant::now();
        is_alive(&mut UnixStream::connect(&path).await.unwrap(), 1).await;
        drop(silent);
        is_alive(&mut UnixStream::connect(&path).await.unwrap(), 1).await;
        assert!(began.elapsed() < Duration::from_secs(1));
    });
}
