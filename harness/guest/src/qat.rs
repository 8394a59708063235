//! What Linux's and DPDK's drivers for QAT virtual functions are put through.

use std::time::Duration;

use crate::guest::Config;
use crate::protocol::{Reason, Shape, Task};
use crate::scenario::{Action, For, Scenario, Step, Wanted, Work};

/// What `intel_qat` registers for a function of the second generation.
pub const DRIVERS: [&str; 9] = [
    "qat_aes_cbc",
    "qat_aes_ctr",
    "qat_aes_xts",
    "qat_aes_cbc_hmac_sha1",
    "qat_aes_cbc_hmac_sha256",
    "qat_aes_cbc_hmac_sha512",
    "qat-rsa",
    "qat-dh",
    "qat_deflate",
];

/// How our counters end that count requests of the services.
pub const WORK: [&str; 6] = [
    "cipher.requests",
    "auth.requests",
    "chain.requests",
    "aead.requests",
    "public_key.requests",
    "compress.requests",
];

/// The module that registers them, whichever function it drives.
const CORE: &str = "intel_qat";
const MODULE: &str = "qat_c62xvf";

/// A processor without AES instructions, whose drivers have higher priorities.
const CPU_WITHOUT_AES: &str = "max,aes=off,vaes=off";

/// Above every driver of the kernel: QAT's own are below those in software, but for compression.
const PRIORITY: u32 = 10_000;

/// Times that the module is unloaded and loaded again, and how many of them are one step.
const RELOADS: u64 = 50;
const RELOADS_A_STEP: u64 = 10;

/// Kernels whose `AF_ALG` lets devices serve it. From 7.2 it takes neither asynchronous drivers nor
/// those that allocate memory, so there the kernel's self-tests, IPsec and eCryptfs are the proof.
const AF_ALG: For = For::Before(7, 2);

/// Where the first function of a guest is.
const FUNCTION: &str = "0000:01:00.0";

/// What its interrupt is called while the driver uses it.
const IRQ: &str = "qat_01:00.00";

/// A tunnel besides the first, as the shell sets it up.
const SECOND_TUNNEL: &str = "ip() { /usr/bin/ip \"$@\"; }
    ip -n left addr add 192.168.3.1/32 dev lo; ip -n right addr add 192.168.4.1/32 dev lo
    ip -n left route add 192.168.4.1 via 10.0.0.2 src 192.168.3.1
    ip -n right route add 192.168.3.1 via 10.0.0.1 src 192.168.4.1
    key=0x36363636363636363636363636363636
    for n in left right; do
        for state in '10.0.0.1 dst 10.0.0.2 proto esp spi 0x201' \
            '10.0.0.2 dst 10.0.0.1 proto esp spi 0x202'; do
            ip -n $n xfrm state add src $state reqid 2 mode tunnel \
                auth-trunc 'hmac(sha256)' $key$(echo $key | cut -c3-) 128 enc 'cbc(aes)' $key
        done
    done
    policy() {
        ip -n $1 xfrm policy add dir $2 src $3 dst $4 tmpl src $5 dst $6 proto esp reqid 2 mode tunnel
    }
    policy left out 192.168.3.1 192.168.4.1 10.0.0.1 10.0.0.2
    policy left in 192.168.4.1 192.168.3.1 10.0.0.2 10.0.0.1
    policy right out 192.168.4.1 192.168.3.1 10.0.0.2 10.0.0.1
    policy right in 192.168.3.1 192.168.4.1 10.0.0.1 10.0.0.2";

/// What DPDK needs to find and use the function.
const DPDK_DRIVERS: [&str; 4] = ["mempool_ring", "bus_pci", "common_qat", "bus_vdev"];

/// Why cases of DPDK's tests are skipped: what their names, or messages before them, have; and the
/// reason. Most are skipped without a message, for want of a capability in the table that DPDK's
/// driver has for this generation (`qat_crypto_pmd_gen2.c`).
const DPDK_REASONS: &[(&[&str], &str)] = &[
    (&["oos_recoverable"], "DPDK's driver has no recovery from a full buffer"),
    (&["Sessionless", "sessionless"], "DPDK's driver takes no requests without a session"),
    (&["NON-Byte Aligned"], "DPDK's driver takes whole bytes only"),
    (&["12-byte IV"], "DPDK's driver takes counter blocks of 16 bytes only"),
    (&["byte plaintext Dataunit"], "DPDK's driver takes no wrapped keys"),
    (
        &["AES-128-ECB", "AES-192-ECB", "AES-256-ECB"],
        "DPDK's driver has no AES-ECB for this generation",
    ),
    (&["MD5 Digest"], "DPDK's driver has MD5 as an HMAC only"),
    (
        &["SHA3_224", "SHA3_384", "SHA3_512", "HMAC-SHA3", "SHAKE"],
        "DPDK's driver has of the SHA-3 family only SHA3-256 for this generation",
    ),
    (&["SM3 Digest"], "DPDK's driver has no SM3 for this generation"),
    (
        &[
            "CCM_authenticated_encryption_test_case_192",
            "CCM_authenticated_decryption_test_case_192",
            "CCM_authenticated_encryption_test_case_256",
            "CCM_authenticated_decryption_test_case_256",
        ],
        "DPDK's driver has CCM with keys of 128 bits only for this generation",
    ),
    (
        &["GCM_auth_encryption_test_case_aad", "GCM_auth_decryption_test_case_aad"],
        "DPDK's driver takes 240 bytes of associated data at most",
    ),
    (&["zuc256"], "DPDK's driver has no ZUC-256 for this generation"),
    (&["test_null_"], "a test of DPDK's null driver"),
    (&["test_queue_pair_descriptor_count"], "DPDK's driver does not tell how full a queue is"),
    (&["Verify cryptodev error recover"], "DPDK's driver does not reset a queue"),
    (&["test_PDCP_PROTO_all"], "DPDK's driver has no PDCP"),
];

const ONE: Wanted = Wanted { count: 1, msix: true, parameters: "" };

/// Everything. `seed` is where all random contents start.
pub fn scenarios(seed: u64) -> Vec<Scenario> {
    let suite = Suite { seed };
    let mut all = vec![
        suite.driver(),
        suite.reload(),
        suite.two_devices(),
        suite.esp(),
        suite.ecryptfs(),
        suite.zswap(),
        suite.reset(),
        suite.restart(),
        suite.restart_load(),
    ];
    all.extend(suite.parts());
    all.extend(suite.mailboxes());
    all.extend(suite.dpdk());
    all
}

struct Suite {
    seed: u64,
}

impl Suite {
    fn driver(&self) -> Scenario {
        let mut steps = self.checks("first", MODULE);
        steps.extend(self.comparisons());
        steps.push(Step::perform("kernel-log", Task::KernelLog));
        scenario(
            "driver",
            "the driver probes, its self-tests pass, its answers are those of software",
            steps,
        )
    }

    fn reload(&self) -> Scenario {
        let mut steps = self.checks("first", MODULE);
        // A module goes only once its self-tests have let go of it.
        let rest = format!(
            "rest() {{ n=0; until [ $(grep -A4 '^driver.*qat' /proc/crypto | grep -c passed) = {} ] \\
                && [ $(cat /sys/module/{MODULE}/refcnt) = 0 ]; do
                n=$((n+1)); [ $n -lt 1200 ] || exit 3; sleep 0.05; done; }}",
            DRIVERS.len(),
        );
        for round in 1..=RELOADS / RELOADS_A_STEP {
            let script = format!(
                "{rest}
                for i in $(seq {RELOADS_A_STEP}); do
                    rest; modprobe -r {MODULE} && modprobe {MODULE} || exit 1
                done; rest"
            );
            // The self-tests of each load are work of the function.
            let step = shell(&format!("reload-{round}"), &script).within(Duration::from_secs(180));
            steps.push(step.with_work(Work::Total(100 * RELOADS_A_STEP)));
        }
        steps.extend(self.checks("last", MODULE));
        steps.push(Step::perform("unload", Task::Unload { module: MODULE.into() }));
        steps.push(registered("unloaded", &[]));
        steps.push(Step::perform("kernel-log", Task::KernelLog));
        scenario("reload", "the driver is unloaded and loaded again 50 times", steps)
    }

    fn two_devices(&self) -> Scenario {
        let mut steps = vec![load("load", &[MODULE]), registered("self-tests", &DRIVERS)];
        // The kernel takes the function with the fewest transforms, so both are taken.
        steps.extend(self.tunnel("aes", "hmac(sha256)", 128));
        let traffic = self.traffic("traffic").with_work(Work::Each(500));
        steps.push(traffic);
        steps.push(Step::perform("kernel-log", Task::KernelLog));
        Scenario {
            devices: Wanted { count: 2, ..ONE },
            ..scenario("two-devices", "two functions in one guest share the work", steps)
        }
    }

    fn esp(&self) -> Scenario {
        let mut steps = vec![load("load", &[MODULE]), registered("self-tests", &DRIVERS)];
        steps.extend(self.tunnel("aes", "hmac(sha256)", 128));
        steps.push(self.traffic("traffic").with_work(Work::Total(1000)));
        steps.push(Step::perform("kernel-log", Task::KernelLog));
        scenario("esp", "an IPsec ESP tunnel between two network namespaces", steps)
    }

    fn ecryptfs(&self) -> Scenario {
        let driver = "qat_aes_cbc".to_owned();
        let task = Task::Ecryptfs { driver: driver.clone(), seed: self.seed };
        let steps = vec![
            load("load", &[MODULE, "ecryptfs", "crypto_user"]),
            registered("self-tests", &DRIVERS),
            Step::perform("priority", Task::Priority { driver, priority: PRIORITY }),
            Step::perform("files", task).with_work(Work::Total(500)),
            Step::perform("kernel-log", Task::KernelLog),
        ];
        scenario("ecryptfs", "an eCryptfs mount whose files come back", steps)
    }

    fn zswap(&self) -> Scenario {
        let set_up = "set -e
            modprobe brd rd_nr=1 rd_size=65536
            modprobe -a zsmalloc
            mkswap /dev/ram0 && swapon /dev/ram0
            cd /sys/module/zswap/parameters
            [ ! -f zpool ] || echo zsmalloc > zpool
            echo deflate > compressor && echo 1 > enabled && grep deflate compressor
            mount -t cgroup2 none /sys/fs/cgroup";
        let steps = vec![
            load("load", &[MODULE]),
            registered("self-tests", &DRIVERS),
            shell("set-up", set_up),
            Step::perform("pages", Task::PageOut { pages: 8192, seed: self.seed })
                .with_work(Work::Total(8192)),
            Step::perform("kernel-log", Task::KernelLog),
        ];
        scenario("zswap", "zswap compresses pages with the function and gets them back", steps)
    }

    fn reset(&self) -> Scenario {
        let mut steps = vec![load("load", &[MODULE]), registered("self-tests", &DRIVERS)];
        steps.extend(self.tunnel("aes", "hmac(sha256)", 128));
        steps.push(endless_traffic().with_work(Work::Total(50)));
        steps.push(Step::new("reset", Action::Reset));
        steps.extend(self.checks("reset", MODULE));
        scenario("reset", "the guest is reset while the function works", steps)
    }

    /// At rest, after work: Linux tears its rings down whether or not transforms are left that use
    /// them, and crashes when these are used again.
    fn restart(&self) -> Scenario {
        let mut steps = vec![load("load", &[MODULE]), registered("self-tests", &DRIVERS)];
        steps.extend(self.tunnel("aes", "hmac(sha256)", 128));
        steps.push(self.traffic("traffic").with_work(Work::Total(1000)));
        let end = "/usr/bin/ip netns del left; /usr/bin/ip netns del right";
        steps.push(shell("tunnel-ends", end));
        let wait = "while grep -q qat /proc/crypto; do sleep 1; done";
        steps.push(shell("wait", wait).within(Duration::from_secs(120)));
        steps.push(registered("gone", &[]));
        steps.push(Step::perform("unload", Task::Unload { module: MODULE.into() }));
        steps.extend(self.checks("again", MODULE));
        Scenario {
            devices: Wanted {
                parameters: r#"{ "restart_after": 1, "restart_delay_ms": 60000 }"#,
                ..ONE
            },
            ..scenario("restart", "the physical function announces a restart", steps)
        }
    }

    /// One function restarts while the other is under load, which is as far as Linux goes: the
    /// transforms that it gave to the first are gone by then. The tests of `models/qat` restart a
    /// function that is itself under load.
    fn restart_load(&self) -> Scenario {
        // The driver gets the second function first, so that the tunnel's transforms are there.
        let hold = format!("echo none > /sys/bus/pci/devices/{FUNCTION}/driver_override");
        let release = format!(
            "set -e
            echo > /sys/bus/pci/devices/{FUNCTION}/driver_override
            echo {FUNCTION} > /sys/bus/pci/drivers_probe
            ls -d /sys/bus/pci/drivers/c6xxvf/{FUNCTION}"
        );
        let begins = "for i in 1 2 3 4; do
                nsenter --net=/run/netns/left ping -q -i 0.02 -c 1500 -W 5 -s 1300 \\
                    -I 192.168.1.1 192.168.2.1 > /tmp/load.$i 2>&1 &
            done";
        // Each of the new transforms goes to the function that has fewer.
        let first_works = format!(
            "set -e
            before=$(cat /sys/module/{CORE}/refcnt)
            {SECOND_TUNNEL}
            nsenter --net=/run/netns/left ping -q -c 20 -A -W 5 -s 1300 -I 192.168.3.1 192.168.4.1
            for n in left right; do
                /usr/bin/ip -n $n xfrm state deleteall reqid 2
            done
            until [ $(cat /sys/module/{CORE}/refcnt) = $before ]; do sleep 0.1; done"
        );
        let goes = format!("while grep -q {IRQ} /proc/interrupts; do sleep 0.1; done");
        // What went into the tunnel at one end came out at the other. The program itself may lose
        // packets, which pile up in its socket.
        let ends = "packets() {
                /usr/bin/ip -n $1 -s xfrm state list spi $2 |
                    awk '/lifetime current/ { getline; print $2 }'
            }
            while [ $(cat /tmp/load.* | grep -c 'packets transmitted') != 4 ]; do sleep 0.1; done
            for end in left:0x101 right:0x101 left:0x102 right:0x102; do
                count=$(packets ${end%:*} ${end#*:})
                echo $end $count
                [ $count = '6000(packets)' ] || exit 1
            done";
        let again = format!(
            "set -e
            echo {FUNCTION} > /sys/bus/pci/drivers/c6xxvf/unbind
            echo {FUNCTION} > /sys/bus/pci/drivers/c6xxvf/bind
            grep {IRQ} /proc/interrupts"
        );
        let mut steps = vec![
            shell("hold-first", &hold),
            load("load", &[MODULE]),
            registered("self-tests", &DRIVERS),
        ];
        steps.extend(self.tunnel("aes", "hmac(sha256)", 128));
        steps.extend([
            shell("load-begins", begins),
            shell("first-joins", &release),
            shell("first-works", &first_works).with_work(Work::Each(40)),
            shell("first-goes", &goes),
            // 6000 packets, each of which is encrypted and decrypted, there and back.
            shell("load-ends", ends)
                .within(Duration::from_secs(180))
                .with_work(Work::Since("load-begins", 20_000)),
            registered("still-there", &DRIVERS),
            Step::perform("kernel-log", Task::KernelLog),
            shell("first-again", &again),
            self.traffic("traffic").with_work(Work::Total(1000)),
            Step::perform("last-kernel-log", Task::KernelLog),
        ]);
        Scenario {
            devices: Wanted {
                count: 2,
                parameters: r#"[{ "restart_after": 1, "restart_delay_ms": 10000 }, {}]"#,
                ..ONE
            },
            ..scenario("restart-load", "a function restarts while another works", steps)
        }
    }

    fn parts(&self) -> Vec<Scenario> {
        let parts = [
            ("c3xxx", "a C3xxx function", "qat_c3xxxvf", r#"{ "part": "c3xxx" }"#),
            ("dh895xcc", "a DH895xCC function", "qat_dh895xccvf", r#"{ "part": "dh895xcc" }"#),
        ];
        let part = |(id, title, module, parameters)| Scenario {
            devices: Wanted { parameters, ..ONE },
            ..scenario(id, title, self.checks("first", module))
        };
        parts.map(part).into()
    }

    fn mailboxes(&self) -> Vec<Scenario> {
        let mailboxes = [
            ("mailbox-2", "mailbox version 2: capabilities", r#"{ "mailbox_version": 2 }"#),
            ("mailbox-3", "mailbox version 3: fast acknowledgement", r#"{ "mailbox_version": 3 }"#),
            ("mailbox-4", "mailbox version 4: the map of rings", r#"{ "mailbox_version": 4 }"#),
        ];
        let mailbox = |(id, title, parameters)| Scenario {
            devices: Wanted { parameters, ..ONE },
            ..scenario(id, title, self.checks("first", MODULE))
        };
        let oldest = Scenario {
            devices: Wanted { parameters: r#"{ "mailbox_version": 1 }"#, ..ONE },
            ..self.mailbox_1()
        };
        [oldest].into_iter().chain(mailboxes.map(mailbox)).collect()
    }

    /// A physical function of version 1 tells no capabilities, and Linux then uses none.
    fn mailbox_1(&self) -> Scenario {
        let bound = "ls -d /sys/bus/pci/drivers/c6xxvf/0000:*";
        let steps = vec![
            load("load", &[MODULE]),
            shell("bound", bound),
            registered("no-services", &[]),
            Step::perform("unload", Task::Unload { module: MODULE.into() }),
            Step::perform("kernel-log", Task::KernelLog),
        ];
        scenario("mailbox-1", "mailbox version 1: the driver probes, without services", steps)
    }

    /// DPDK's own tests. `vfio-pci` refuses these functions, so `uio_pci_generic` has them.
    fn dpdk(&self) -> Vec<Scenario> {
        // Without a node of their own, functions get no memory from DPDK for intermediate buffers.
        let bind = "set -e
            mkdir -p /var/run /dev/hugepages && mount -t hugetlbfs none /dev/hugepages
            echo 600 > /proc/sys/vm/nr_hugepages && grep -qx 600 /proc/sys/vm/nr_hugepages
            echo 0 > /sys/bus/pci/devices/$FUNCTION/numa_node
            modprobe uio_pci_generic
            echo 8086 37c9 > /sys/bus/pci/drivers/uio_pci_generic/new_id
            ls -d /sys/bus/pci/drivers/uio_pci_generic/$FUNCTION";
        let bind = format!("FUNCTION={FUNCTION}\n{bind}");
        let test = |command: &str, options: &str| {
            let task = Task::DpdkTest {
                command: command.to_owned(),
                function: format!("{FUNCTION}{options}"),
                drivers: DPDK_DRIVERS.map(|name| format!("librte_{name}.so.25")).into(),
                reasons: dpdk_reasons(),
            };
            Step::perform(command, task).within(Duration::from_secs(240))
        };
        let steps = vec![
            shell("bind", &bind).within(Duration::from_secs(120)),
            test("compressdev_autotest", "").with_work(Work::Total(100)),
            // Short RSA keys and old ciphers are there only if asked for.
            test("cryptodev_qat_asym_autotest", ",qat_legacy_capa=1").with_work(Work::Total(6)),
            test("cryptodev_qat_autotest", ",qat_legacy_capa=1").with_work(Work::Total(500)),
        ];
        let config = Config {
            programs: vec!["dpdk-test".to_owned()],
            modules: vec!["uio_pci_generic".to_owned()],
            memory_mib: 2048,
            ..Config::default()
        };
        let id = "dpdk";
        let title = "DPDK's own tests of its drivers, bound with uio_pci_generic";
        vec![Scenario { id, title, config, devices: ONE, steps }]
    }

    /// Loads a driver's module and waits for the self-tests. `when` makes the steps' names unique.
    fn checks(&self, when: &str, module: &str) -> Vec<Step> {
        vec![
            load(&format!("{when}-load"), &[module]),
            registered(&format!("{when}-self-tests"), &DRIVERS),
            Step::perform(format!("{when}-kernel-log"), Task::KernelLog),
        ]
    }

    /// Ciphers, and ciphers with hashes, against the kernel's own, over `AF_ALG`.
    fn comparisons(&self) -> Vec<Step> {
        let mut steps =
            vec![load("comparisons-load", &["algif_skcipher", "algif_aead"]).on(AF_ALG)];
        let mut add = |driver: &str, reference: &str, shape| {
            let (driver, reference) = (driver.to_owned(), reference.to_owned());
            let id = driver.clone();
            let task = Task::Compare { driver, reference, shape, seed: self.seed };
            steps.push(Step::perform(id, task).with_work(Work::Total(30)).on(AF_ALG));
        };
        for (driver, reference, keys_bytes) in [
            ("qat_aes_cbc", "cbc(aes-generic)", vec![16, 24, 32]),
            ("qat_aes_ctr", "ctr(aes-generic)", vec![16, 24, 32]),
            ("qat_aes_xts", "xts(ecb(aes-generic))", vec![32, 64]),
        ] {
            add(driver, reference, Shape::Cipher { keys_bytes });
        }
        for (driver, hash, auth_key_bytes, tag_bytes) in [
            ("qat_aes_cbc_hmac_sha1", "sha1", 20, 20),
            ("qat_aes_cbc_hmac_sha256", "sha256", 32, 16),
            ("qat_aes_cbc_hmac_sha512", "sha512", 64, 32),
        ] {
            let reference = format!("authenc(hmac({hash}-generic),cbc(aes-generic))");
            add(driver, &reference, Shape::Authenc { auth_key_bytes, tag_bytes });
        }
        steps
    }

    /// A tunnel between the namespaces `left` and `right`, for which the kernel takes the function.
    fn tunnel(&self, cipher: &str, hash: &str, tag_bits: u32) -> Vec<Step> {
        let driver = "qat_aes_cbc_hmac_sha256".to_owned();
        let script = format!(
            "set -e
            ip() {{ /usr/bin/ip \"$@\"; }} # else the shell takes its own
            ip netns add left; ip netns add right
            ip link add name left netns left type veth peer name right netns right
            for n in left right; do ip -n $n link set lo up; ip -n $n link set $n up; done
            ip -n left addr add 10.0.0.1/24 dev left; ip -n right addr add 10.0.0.2/24 dev right
            ip -n left addr add 192.168.1.1/32 dev lo; ip -n right addr add 192.168.2.1/32 dev lo
            ip -n left route add 192.168.2.1 via 10.0.0.2 src 192.168.1.1
            ip -n right route add 192.168.1.1 via 10.0.0.1 src 192.168.2.1
            state() {{
                ip -n $1 xfrm state add src $2 dst $3 proto esp spi $4 reqid 1 mode tunnel \\
                    auth-trunc '{hash}' 0x{auth} {tag_bits} enc 'cbc({cipher})' 0x{key}
            }}
            policy() {{
                ip -n $1 xfrm policy add dir $2 src $3 dst $4 \\
                    tmpl src $5 dst $6 proto esp reqid 1 mode tunnel
            }}
            for n in left right; do
                state $n 10.0.0.1 10.0.0.2 0x101
                state $n 10.0.0.2 10.0.0.1 0x102
            done
            policy left out 192.168.1.1 192.168.2.1 10.0.0.1 10.0.0.2
            policy left in 192.168.2.1 192.168.1.1 10.0.0.2 10.0.0.1
            policy right out 192.168.2.1 192.168.1.1 10.0.0.2 10.0.0.1
            policy right in 192.168.1.1 192.168.2.1 10.0.0.1 10.0.0.2",
            auth = "5c".repeat(32),
            key = "36".repeat(16),
        );
        vec![
            load("tunnel-load", &["crypto_user", "esp4", "xfrm_user", "veth"]),
            Step::perform("priority", Task::Priority { driver, priority: PRIORITY }),
            shell("tunnel", &script),
        ]
    }

    /// Packets and a file through the tunnel. What went in must come out.
    fn traffic(&self, id: &str) -> Step {
        let script = "set -e
            nsenter --net=/run/netns/left ping -q -c 100 -A -s 1300 -I 192.168.1.1 192.168.2.1
            dd if=/dev/urandom of=/tmp/sent bs=65536 count=32 2>/dev/null
            # The receiver ends when its input does, or the sender.
            mkfifo /tmp/open
            nsenter --net=/run/netns/right nc -l -p 5000 < /tmp/open > /tmp/received &
            receiver=$!
            exec 3> /tmp/open
            sleep 1
            nsenter --net=/run/netns/left nc 192.168.2.1 5000 < /tmp/sent
            wait $receiver
            cmp /tmp/sent /tmp/received
            /usr/bin/ip -n left -s xfrm state | grep -A1 'lifetime current'";
        shell(id, script)
    }
}

/// Packets through the tunnel, until the guest ends.
fn endless_traffic() -> Step {
    let script = "for i in 1 2 3 4; do
            nsenter --net=/run/netns/left ping -q -A -s 1300 -I 192.168.1.1 192.168.2.1 \\
                > /dev/null 2>&1 &
        done
        sleep 3";
    shell("load-begins", script)
}

fn load(id: &str, modules: &[&str]) -> Step {
    Step::perform(id, Task::Load { modules: modules.iter().map(|&m| m.to_owned()).collect() })
}

/// Waits until exactly these drivers are there, and have passed their self-tests.
fn registered(id: &str, drivers: &[&str]) -> Step {
    let drivers: Vec<String> = drivers.iter().map(|&d| d.to_owned()).collect();
    let step = Step::perform(id, Task::Algorithms { module: CORE.to_owned(), drivers });
    step.within(Duration::from_secs(120))
}

fn shell(id: &str, script: &str) -> Step {
    Step::perform(id, Task::Shell { script: script.to_owned() })
}

fn scenario(id: &'static str, title: &'static str, steps: Vec<Step>) -> Scenario {
    Scenario { id, title, config: config(), devices: ONE, steps }
}

/// Why cases of DPDK's tests are skipped.
fn dpdk_reasons() -> Vec<Reason> {
    let reason = |(marks, why): &(&[&str], &str)| Reason {
        marks: marks.iter().map(|&mark| mark.to_owned()).collect(),
        why: (*why).to_owned(),
    };
    DPDK_REASONS.iter().map(reason).collect()
}

/// A guest with all that the steps load, and what the kernel may ask for.
fn config() -> Config {
    let modules = [
        MODULE,
        "qat_c3xxxvf",
        "qat_dh895xccvf",
        "algif_skcipher",
        "algif_aead",
        "crypto_user",
        "ecryptfs",
        "esp4",
        "xfrm_user",
        "veth",
        "brd",
        "zsmalloc",
        "kernel/crypto/",
    ];
    Config {
        cpu: CPU_WITHOUT_AES.to_owned(),
        programs: vec!["ip".to_owned()],
        modules: modules.map(str::to_owned).into(),
        ..Config::default()
    }
}
