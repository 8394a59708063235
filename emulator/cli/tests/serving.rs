//! `serve` and `inspect`: real processes, real sockets.

#[cfg(test)]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod common;

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use common::{Understudy, line};
use serde_json::{Value, json};

#[test]
fn a_device_is_served_inspected_and_cleaned_up_after() {
    let understudy = Understudy::new();
    let serving = understudy.serve(&["virtio-crypto", "--socket", "crypto.sock"]);
    let path = understudy.path("crypto.sock");
    let said = serving.announcement();
    assert!(said.contains(&format!("serving virtio-crypto (1af4:1054) on {}", path.display())));
    assert!(said.contains("memory-backend-memfd,id=mem0,size=2G,share=on"), "{said}");
    assert!(said.contains(r#"-device '{"driver":"vfio-user-pci","socket":{"#), "{said}");

    let shown = understudy.run(&["inspect", "--socket", "crypto.sock"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    for text in ["no client is attached", "common.device_status", "queue 0 (dataq 0)"] {
        assert!(shown.stdout.contains(text), "no {text:?} in:\n{}", shown.stdout);
    }
    let shown = understudy.run(&["inspect", "--socket", "crypto.sock", "--json"]);
    let json: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(json["device"], "virtio-crypto");
    assert_eq!(json["state"]["queues"].as_array().unwrap().len(), 2);

    // While it is alive, nobody else gets the socket.
    let second = understudy.run(&["serve", "virtio-crypto", "--socket", "crypto.sock"]);
    assert_eq!(second.code, 3);
    assert!(line(&second.stderr).contains("another server is alive"), "{}", second.stderr);

    assert_eq!(serving.stop(), 0);
    assert!(!path.exists(), "the socket is still there");
    assert!(!understudy.path("crypto.sock.control").exists(), "the control socket is still there");
}

#[test]
fn sockets_that_dead_servers_left_are_replaced() {
    let understudy = Understudy::new();
    for name in ["crypto.sock", "crypto.sock.control"] {
        drop(UnixListener::bind(understudy.path(name)).unwrap());
        assert!(understudy.path(name).exists());
    }
    let serving = understudy.serve(&["virtio-crypto", "--socket", "crypto.sock"]);
    assert_eq!(understudy.run(&["inspect", "--socket", "crypto.sock"]).code, 0);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn many_devices_are_served_from_one_process() {
    let understudy = Understudy::new();
    std::fs::create_dir(understudy.path("sockets")).unwrap();
    let serving = understudy.serve(&["virtio-crypto", "virtio-crypto", "--socket", "sockets"]);
    for name in ["sockets/virtio-crypto.sock", "sockets/virtio-crypto-2.sock"] {
        assert_eq!(understudy.run(&["inspect", "--socket", name]).code, 0, "{name}");
    }
    assert_eq!(serving.announcement().matches("-device").count(), 2);
    assert_eq!(serving.stop(), 0);
    assert_eq!(std::fs::read_dir(understudy.path("sockets")).unwrap().count(), 0);
}

#[test]
fn a_configuration_gives_each_device_its_parameters() {
    let understudy = Understudy::new();
    let text = r#"{"sockets": ".", "devices": [
        {"device": "virtio-crypto"},
        {"device": "virtio-crypto", "name": "wide", "parameters": {"data_queues": 3}}
    ]}"#;
    std::fs::write(understudy.path("devices.json"), text).unwrap();
    let serving = understudy.serve(&["--config", "devices.json"]);
    let queues = |socket: &str| {
        let shown = understudy.run(&["inspect", "--socket", socket, "--json"]);
        let json: Value = serde_json::from_str(&shown.stdout).unwrap();
        json["state"]["queues"].as_array().unwrap().len()
    };
    assert_eq!((queues("virtio-crypto.sock"), queues("wide.sock")), (2, 4));
    assert_eq!(serving.stop(), 0);
}

#[test]
fn ids_are_those_of_the_function_that_the_parameters_make() {
    let understudy = Understudy::new();
    let parts = [("c62x", "8086:37c9"), ("c3xxx", "8086:19e3"), ("dh895xcc", "8086:0443")];
    let devices = parts.map(|(part, _)| {
        json!({ "device": "qat", "socket": format!("{part}.sock"), "parameters": { "part": part } })
    });
    let text = json!({ "devices": devices }).to_string();
    std::fs::write(understudy.path("devices.json"), text).unwrap();
    let serving = understudy.serve(&["--config", "devices.json"]);
    for (part, id) in parts {
        let name = format!("{part}.sock");
        let line = format!("serving qat ({id}) on {}", understudy.path(&name).display());
        assert!(serving.announcement().contains(&line), "{}", serving.announcement());
        let shown = understudy.run(&["inspect", "--socket", &name]).stdout;
        assert!(shown.starts_with(&format!("qat ({id}) on ")), "{shown}");
        let (vendor, device) = id.split_once(':').unwrap();
        for (register, value) in [("vendor_id", vendor), ("device_id", device)] {
            let line = shown.lines().find(|line| line.contains(register)).unwrap();
            assert!(line.contains(&format!("0x{value}")), "{line}");
        }
    }
    assert_eq!(serving.stop(), 0);
}

#[test]
fn parameters_are_set_on_the_command_line() {
    let understudy = Understudy::new();
    let set = ["--set", "part=c3xxx", "--set", "mailbox_version=1"];
    let arguments = [&["qat", "--socket", "qat.sock"][..], &set].concat();
    let serving = understudy.serve(&arguments);
    assert!(serving.announcement().starts_with("serving qat (8086:19e3) on "));
    assert_eq!(serving.stop(), 0);
    // Each of the devices has them.
    std::fs::create_dir(understudy.path("sockets")).unwrap();
    let many = ["virtio-crypto", "virtio-crypto", "--socket", "sockets", "--set", "data_queues=3"];
    let serving = understudy.serve(&many);
    for name in ["sockets/virtio-crypto.sock", "sockets/virtio-crypto-2.sock"] {
        let shown = understudy.run(&["inspect", "--socket", name]).stdout;
        assert!(shown.contains("queue 3 (controlq)"), "{shown}");
    }
    assert_eq!(serving.stop(), 0);
}

#[test]
fn the_fixtures_configurations_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/configs");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        // Their sockets must not land in the repository, or in a folder that others use.
        let text = text.replace("\"/tmp\"", "\".\"");
        let understudy = Understudy::new();
        std::fs::write(understudy.path("devices.json"), text).unwrap();
        assert_eq!(understudy.serve(&["--config", "devices.json"]).stop(), 0);
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn the_control_socket_answers_line_by_line() {
    let understudy = Understudy::new();
    let serving = understudy.serve(&["virtio-crypto", "--socket", "crypto.sock"]);
    let stream = UnixStream::connect(understudy.path("crypto.sock.control")).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut ask = |request: &str| -> Value {
        // The server hangs up on a request that is too long, perhaps before it was all sent.
        if let Err(error) = (&stream).write_all(format!("{request}\n").as_bytes()) {
            let hung_up = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(hung_up.contains(&error.kind()) && request.len() > 65536, "{error}");
        }
        let mut answer = String::new();
        reader.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    let described = ask(r#"{"id": "x", "method": "describe"}"#);
    assert_eq!(described["id"], "x");
    assert_eq!(described["result"]["protocol"], 1);
    assert_eq!(described["result"]["pci_id"], "1af4:1054");
    for (request, problem) in [
        ("nonsense", "not a request"),
        (r#"{"id": 1, "method": "explode"}"#, "unknown variant"),
        (r#"{"id": 1, "method": "describe", "why": 1}"#, "unknown field"),
    ] {
        let answer = ask(request);
        assert_eq!(answer["id"], json!(null));
        assert!(answer["error"].as_str().unwrap().contains(problem), "{answer}");
    }
    assert!(ask(r#"{"method": "inspect"}"#)["result"]["state"]["registers"].is_array());
    assert!(ask(&"x".repeat(70_000))["error"].as_str().unwrap().contains("65536"));
    assert_eq!(serving.stop(), 0);
}
