//! The command line from outside: exit codes, the one line on standard error, help texts.

#[cfg(test)]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod common;

use std::os::unix::net::UnixListener;

use common::{Understudy, line, names};

#[test]
fn help_is_complete_and_has_examples() {
    let mut all = String::new();
    for arguments in [
        &["--help"][..],
        &["devices", "--help"],
        &["serve", "--help"],
        &["check", "--help"],
        &["guest", "--help"],
        &["simulate", "--help"],
        &["inspect", "--help"],
        &["qaic", "--help"],
        &["qaic", "pack", "--help"],
        &["qaic", "show", "--help"],
        &["schema", "--help"],
        &["completions", "--help"],
    ] {
        let done = Understudy::new().run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}");
        all.push_str(&format!("$ understudy {}\n{}\n", arguments.join(" "), done.stdout));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn devices_are_listed_as_a_table_and_as_json() {
    let done = Understudy::new().run(&["devices"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    insta::assert_snapshot!(done.stdout);
    let json: serde_json::Value =
        serde_json::from_str(&Understudy::new().run(&["devices", "--json"]).stdout).unwrap();
    assert_eq!(json[0]["name"], "virtio-crypto");
    assert_eq!(json[0]["device_id"], 0x1054);
}

#[test]
fn wrong_command_lines_are_one_line_and_exit_2() {
    let all = names();
    let mut lines = Vec::new();
    for arguments in [
        &[][..],
        &["chekc"],
        &["devices", "--jsno"],
        &["serve"],
        &["serve", "virtio-crypto"],
        &["serve", "toaster", "--socket", "s"],
        &["serve", "virtio-crypto", "virtio-crypto", "--socket", "not-a-folder"],
        &["serve", "virtio-crypto", "--config", "x.json", "--socket", "s"],
        &["serve", "qat", "--socket", "s", "--set", "part=c4xxx"],
        &["serve", "qat", "--socket", "s", "--set", "part"],
        &["serve", "qat", "virtio-crypto", "--socket", ".", "--set", "part=c3xxx"],
        &["serve", "--config", "x.json", "--set", "part=c3xxx"],
        &["check", "--set", "part=c3xxx"],
        &["check", "qat", "--set", "mailbox_version=6"],
        &["check", "--connect", "s", "--set", "part=c3xxx"],
        &["check", "--driver", "qat/driver", "--set", "part=c3xxx"],
        &["simulate", "qat", "--set", "mailbox_version=one"],
        &["simulate", "--replay", "finding.json", "--set", "part=c3xxx"],
        &["guest", "qat", "--list", "--set", "restart=1"],
        &["check", "toaster"],
        &["check", "--only", "no/such/check"],
        &["check", "--only", "["],
        &["check", "--timeout", "0"],
        &["check", "--timeout", "soon"],
        &["guest", "toaster"],
        &["guest", "virtio-crypto", "--scenario", "tea"],
        &["schema", "everything"],
        &["completions", "tcsh"],
        &["inspect"],
    ] {
        let done = Understudy::new().run(arguments);
        assert_eq!(done.code, 2, "{arguments:?}: {}", done.stderr);
        let line = line(&done.stderr).replace(&all, "(every device)");
        lines.push(format!("$ understudy {}\n{line}", arguments.join(" ")));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn wrong_configurations_are_one_line_and_exit_2() {
    let all = names();
    let mut lines = Vec::new();
    for text in [
        "{",
        r#"{"devices": [{"device": "virtio-crypto", "sokcet": "s"}]}"#,
        r#"{"devices": [{"device": "toaster", "socket": "s"}]}"#,
        "{\n  \"devices\": [\n    {\"device\": \"virtio-crypto\", \"socket\": \"s\",\n     \
         \"parameters\": {\"data_queues\": 65}}]}",
        "{\n  \"devices\": [\n    {\"device\": \"virtio-crypto\", \"socket\": \"s\",\n     \
         \"parameters\": {\"queues\": 1}}]}",
    ] {
        let understudy = Understudy::new();
        std::fs::write(understudy.path("devices.json"), text).unwrap();
        let done = understudy.run(&["serve", "--config", "devices.json"]);
        assert_eq!(done.code, 2, "{text}: {}", done.stderr);
        lines.push(line(&done.stderr).replace(&all, "(every device)"));
    }
    let done = Understudy::new().run(&["serve", "--config", "missing.json"]);
    assert_eq!(done.code, 2);
    lines.push(line(&done.stderr));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn sockets_that_cannot_be_are_one_line_and_exit_3() {
    let understudy = Understudy::new();
    let missing = understudy.run(&["serve", "virtio-crypto", "--socket", "no/folder/x.sock"]);
    std::fs::write(understudy.path("file"), "not a socket").unwrap();
    let file = understudy.run(&["serve", "virtio-crypto", "--socket", "file"]);
    let nobody = understudy.run(&["inspect", "--socket", "nobody.sock"]);
    // Somebody else's server.
    let _listener = UnixListener::bind(understudy.path("busy.sock")).unwrap();
    let busy = understudy.run(&["serve", "virtio-crypto", "--socket", "busy.sock"]);
    for done in [&missing, &file, &nobody, &busy] {
        assert_eq!(done.code, 3, "{}", done.stderr);
    }
    let lines = [missing, file, nobody, busy].map(|done| line(&done.stderr));
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(std::fs::read_to_string(understudy.path("file")).unwrap(), "not a socket");
}

#[test]
fn a_path_too_long_for_a_socket_is_said_so() {
    let long = format!("{}.sock", "x".repeat(120));
    let done = Understudy::new().run(&["serve", "virtio-crypto", "--socket", &long]);
    assert_eq!(done.code, 2);
    assert!(line(&done.stderr).contains("at most 107 bytes"), "{}", done.stderr);
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let done = Understudy::new().run(&["completions", shell]);
        assert_eq!(done.code, 0);
        assert!(done.stdout.contains("inspect"), "{shell}");
    }
}

/// `UPDATE_SCHEMAS=1` writes what is published.
#[test]
fn the_published_schemas_are_those_of_the_program() {
    let all = [
        ("config", "config.schema.json"),
        ("report", "report.schema.json"),
        ("faults", "faults.schema.json"),
    ];
    for (name, file) in all {
        let done = Understudy::new().run(&["schema", name]);
        assert_eq!(done.code, 0);
        let path = format!("{}/../../docs/{file}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&path, &done.stdout).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap();
        assert_eq!(published, done.stdout, "docs/{file} is old: run with UPDATE_SCHEMAS=1");
    }
}
