//! The words of each device, for fault plans and traces.

use understudy_device::{
    Bar, Doorbell, FeatureWindow, Field, Named, Requests, ResetRegister, StatusPlace, Vocabulary,
};

/// virtio 1.3 §2.7, §4.1.4, §5.9.
pub(crate) const VIRTIO_CRYPTO: Vocabulary = Vocabulary {
    doorbells: &[Doorbell { bar: Bar(4), offset: 0x3000, stride: 4, count: 1024 }],
    requests: Requests::Virtqueue { opcode: Field::new(0, 4) },
    opcodes: &[
        Named::new("cipher.create_session", 0x002),
        Named::new("cipher.destroy_session", 0x003),
        Named::new("hash.create_session", 0x102),
        Named::new("hash.destroy_session", 0x103),
        Named::new("mac.create_session", 0x202),
        Named::new("mac.destroy_session", 0x203),
        Named::new("aead.create_session", 0x302),
        Named::new("aead.destroy_session", 0x303),
        Named::new("akcipher.create_session", 0x404),
        Named::new("akcipher.destroy_session", 0x405),
        Named::new("cipher.encrypt", 0x000),
        Named::new("cipher.decrypt", 0x001),
        Named::new("hash", 0x100),
        Named::new("mac", 0x200),
        Named::new("aead.encrypt", 0x300),
        Named::new("aead.decrypt", 0x301),
        Named::new("akcipher.encrypt", 0x400),
        Named::new("akcipher.decrypt", 0x401),
        Named::new("akcipher.sign", 0x402),
        Named::new("akcipher.verify", 0x403),
    ],
    // `id` of the used element.
    tag: Some(Field::new(0, 4)),
    // `struct virtio_crypto_inhdr`, `struct virtio_crypto_create_session_input`.
    status: StatusPlace::LastWrite(&[(1, Field::new(0, 1)), (16, Field::new(8, 4))]),
    status_mask: 0xffff_ffff,
    good: 0,
    statuses: &[
        Named::new("err", 1),
        Named::new("badmsg", 2),
        Named::new("notsupp", 3),
        Named::new("invsess", 4),
        Named::new("nospc", 5),
        Named::new("key_rejected", 6),
    ],
    reset: Some(ResetRegister { register: "common.device_status", value: 0, busy: 0x0f }),
    features: Some(FeatureWindow {
        select: "common.device_feature_select",
        offered: "common.device_feature",
        accept_select: "common.driver_feature_select",
        accepted: "common.driver_feature",
        features: &[
            Named::new("revision_1", 0),
            Named::new("cipher_stateless", 1),
            Named::new("hash_stateless", 2),
            Named::new("mac_stateless", 3),
            Named::new("aead_stateless", 4),
            Named::new("akcipher_stateless", 5),
            Named::new("indirect_desc", 28),
            Named::new("event_idx", 29),
            Named::new("version_1", 32),
            Named::new("ring_packed", 34),
            Named::new("notification_data", 38),
            Named::new("ring_reset", 40),
        ],
    }),
    refused: &[],
};

/// Linux `adf_gen2_hw_csr_data.h`, `icp_qat_fw*.h`.
pub(crate) const QAT: Vocabulary = Vocabulary {
    // The tail registers of the request rings.
    doorbells: &[Doorbell { bar: Bar(0), offset: 0x100, stride: 4, count: 8 }],
    // Command and service of the header; the opaque value.
    requests: Requests::Inline { opcode: Field::new(1, 2), tag: Some(Field::new(24, 8)) },
    opcodes: &[
        Named::new("null", 0x000),
        Named::new("public_key", 0x300),
        Named::new("symmetric.cipher", 0x400),
        Named::new("symmetric.auth", 0x401),
        Named::new("symmetric.cipher_hash", 0x402),
        Named::new("symmetric.hash_cipher", 0x403),
        Named::new("compression.static", 0x900),
        Named::new("compression.dynamic", 0x901),
        Named::new("compression.decompress", 0x902),
    ],
    tag: Some(Field::new(8, 8)),
    // Error of the translator, error of the compressor or status of a public-key request, status.
    status: StatusPlace::Entry(Field::new(4, 3)),
    // Not the bit that tells of the end of a stream.
    status_mask: 0xf7_ffff,
    good: 0,
    statuses: &[
        Named::new("crypto", 0x80_0000),
        Named::new("crypto_unsupported", 0x84_0000),
        Named::new("crypto_invalid", 0x82_0000),
        Named::new("public_key", 0x00_4000),
        Named::new("compression", 0x20_0000),
        Named::new("compression_overflow", 0x20_f500),
        Named::new("compression_fatal", 0x20_f300),
        Named::new("endpoint", 0xa0_f100),
    ],
    reset: None,
    features: None,
    refused: &[(
        "feature-missing",
        "the physical function tells the features in mailbox messages with a checksum; \
         parameters of the device choose them",
    )],
};

/// Linux `drivers/accel/qaic/qaic_data.c`; statuses are the model's.
pub(crate) const QAIC: Vocabulary = Vocabulary {
    // The tail registers of the request rings.
    doorbells: &[Doorbell { bar: Bar(2), offset: 0x2_0004, stride: 0x1000, count: 16 }],
    // Command and id of a request of the DMA bridge.
    requests: Requests::Inline { opcode: Field::new(3, 1), tag: Some(Field::new(0, 2)) },
    opcodes: &[
        Named::new("none", 0x08),
        Named::new("none.completion", 0x18),
        Named::new("to_device", 0x09),
        Named::new("to_device.completion", 0x19),
        Named::new("from_device", 0x0a),
        Named::new("from_device.completion", 0x1a),
    ],
    tag: Some(Field::new(0, 2)),
    status: StatusPlace::Entry(Field::new(2, 2)),
    status_mask: 0xffff,
    good: 0,
    statuses: &[
        Named::new("illegal", 1),
        Named::new("device_address", 2),
        Named::new("host_fault", 3),
        Named::new("doorbell", 4),
    ],
    reset: None,
    features: None,
    refused: &[
        ("feature-missing", "the device has no feature bits"),
        (
            "corrupt-output",
            "transfers of the DMA bridge belong to no completion; dma-partial and dma-stale spoil them",
        ),
        (
            "completion-before-data",
            "transfers of the DMA bridge belong to no completion; completion-late delays responses",
        ),
    ],
};
