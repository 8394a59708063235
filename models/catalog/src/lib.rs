//! The devices that exist as models: what they are, what drives them, how to make one.
//!
//! Hosts, checks and documentation take their list of devices from here and know none by name.
//!
//! - [`DEVICES`]: the list.
//! - [`Device::build`]: a model from JSON parameters, all of which have defaults.
//!
//! A new device is one entry in the list.
#![forbid(unsafe_code)]

use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use understudy_device::{DeviceModel, Vocabulary};
use understudy_qaic::Qaic;
use understudy_qat::Qat;
use understudy_virtio_crypto::VirtioCrypto;

mod vocabulary;

/// A driver that runs on a model unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Driver {
    /// Name of the module or driver (`virtio_crypto`).
    pub name: &'static str,
    /// Where it comes from (`Linux`).
    pub from: &'static str,
}

/// One device of the catalog.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Device {
    /// Name, as in [`Identity::name`](understudy_device::Identity::name).
    pub name: &'static str,
    /// PCI vendor id.
    pub vendor_id: u16,
    /// PCI device id.
    pub device_id: u16,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Specification or driver it follows.
    pub source: &'static str,
    /// What the device has and the model lacks.
    pub not_modelled: &'static [&'static str],
    /// Drivers that run on it unchanged.
    pub drivers: &'static [Driver],
    /// What its queues hold, for fault plans and traces.
    #[serde(skip)]
    pub vocabulary: &'static Vocabulary,
    #[serde(skip)]
    defaults: fn() -> Value,
    #[serde(skip)]
    schema: fn() -> Schema,
    #[serde(skip)]
    build: fn(Value) -> Result<Box<dyn DeviceModel>, CatalogError>,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// No device of that name.
    #[error("no device is called {0:?}")]
    UnknownDevice(String),
    /// The parameters are not of the device's type.
    #[error("parameters: {0}")]
    Parameters(#[from] serde_json::Error),
    /// The device cannot be built with these parameters.
    #[error("parameters: {0}")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Device {
    /// The parameters and their defaults, as a JSON object.
    #[must_use]
    pub fn default_parameters(&self) -> Value {
        (self.defaults)()
    }

    /// The JSON schema of the parameters.
    #[must_use]
    pub fn parameter_schema(&self) -> Schema {
        (self.schema)()
    }

    /// Makes a model at power-on. Parameters that are absent, or all of them if `parameters` is
    /// null, have their defaults.
    ///
    /// # Errors
    /// [`CatalogError::Parameters`] or [`CatalogError::Refused`].
    pub fn build(&self, parameters: Value) -> Result<Box<dyn DeviceModel>, CatalogError> {
        (self.build)(parameters)
    }
}

/// The device of that name.
///
/// # Errors
/// [`CatalogError::UnknownDevice`].
pub fn find(name: &str) -> Result<&'static Device, CatalogError> {
    let device = DEVICES.iter().find(|device| device.name == name);
    device.ok_or_else(|| CatalogError::UnknownDevice(name.to_owned()))
}

/// Parameters with others over them.
#[must_use]
pub fn overlaid(parameters: Value, over: &Map<String, Value>) -> Value {
    match parameters {
        parameters if over.is_empty() => parameters,
        Value::Object(mut all) => {
            all.extend(over.clone());
            all.into()
        }
        // All defaults.
        _ => over.clone().into(),
    }
}

/// Every device there is a model of.
pub static DEVICES: &[Device] = &[VIRTIO_CRYPTO, QAT, QAIC];

const VIRTIO_CRYPTO: Device = Device {
    name: "virtio-crypto",
    vendor_id: 0x1af4,
    device_id: 0x1054,
    summary: "Virtio crypto device: ciphers, hashes, MACs, AEAD, RSA and ECDSA",
    source: "virtio 1.3 \u{a7}5.9 over \u{a7}4.1 (PCI)",
    not_modelled: &[
        "IPSEC service",
        "ECDSA on P-192 and P-224, RSA with MD2 or MD3",
        "KASUMI, SNOW 3G, ZUC, AES-F8, Twofish and GMAC",
        "nested hashes in chains",
        "legacy and transitional interfaces, administration queues, shared memory regions",
        "VIRTIO_F_IN_ORDER, ORDER_PLATFORM, SR_IOV, NOTIFICATION_DATA and NOTIF_CONFIG_DATA",
    ],
    drivers: &[
        Driver { name: "virtio_crypto", from: "Linux" },
        Driver { name: "crypto_virtio", from: "DPDK" },
    ],
    vocabulary: &vocabulary::VIRTIO_CRYPTO,
    defaults: defaults::<understudy_virtio_crypto::Parameters>,
    schema: schema::<understudy_virtio_crypto::Parameters>,
    build: |value| {
        let device = VirtioCrypto::new(parameters(value)?);
        Ok(Box::new(device.map_err(|error| CatalogError::Refused(error.into()))?))
    },
};

const QAT: Device = Device {
    name: "qat",
    vendor_id: 0x8086,
    device_id: 0x37c9,
    summary: "Intel QAT gen2 virtual function (C62x, C3xxx, DH895xCC): crypto, public key, deflate",
    source: "Linux 6.12 drivers/crypto/intel/qat and DPDK 24.11 drivers/common/qat",
    not_modelled: &[
        "AES-F8, ARC4, ZUC-256, GALOIS_64 and hash mode 2",
        "Cipher-CRC, key derivation and random numbers",
        "messages in parts, IVs written back, content descriptors inside requests",
        "AES decryption with keys that the driver converted",
        "binary curves, SM2, DSA, primality tests and RSA key generation",
        "stateful compression, LZS and counters of CNV errors",
        "ring watermarks, INT_SRCSEL, heartbeat and administration messages",
    ],
    drivers: &[
        Driver { name: "qat_c62xvf", from: "Linux" },
        Driver { name: "qat_c3xxxvf", from: "Linux" },
        Driver { name: "qat_dh895xccvf", from: "Linux" },
        Driver { name: "crypto_qat", from: "DPDK" },
        Driver { name: "compress_qat", from: "DPDK" },
    ],
    vocabulary: &vocabulary::QAT,
    defaults: defaults::<understudy_qat::Parameters>,
    schema: schema::<understudy_qat::Parameters>,
    build: |value| {
        let device = Qat::new(parameters(value)?);
        Ok(Box::new(device.map_err(|error| CatalogError::Refused(error.into()))?))
    },
};

const QAIC: Device = Device {
    name: "qaic",
    vendor_id: 0x17cb,
    device_id: 0xa100,
    summary: "Qualcomm Cloud AI 100: runs ONNX networks in the vendor's program containers",
    source: "Linux 6.12 drivers/accel/qaic and drivers/bus/mhi; the vendor's open runtime",
    not_modelled: &[
        "programs for the chip's own processors",
        "checks of firmware and its contents",
        "NNC reservations, activation states and device configuration; CRCs within commands",
        "linked-list transfers of the DMA bridge",
        "BHIe, ramdumps, crash dumps (SSR) and RAS events",
        "MHI power states M1 and M3_FAST, event moderation and bandwidth requests",
        "what the TELEMETRY, DIAG, QDSS and DEBUG channels would say; temperatures and power",
    ],
    drivers: &[Driver { name: "qaic", from: "Linux" }],
    vocabulary: &vocabulary::QAIC,
    defaults: defaults::<understudy_qaic::Parameters>,
    schema: schema::<understudy_qaic::Parameters>,
    build: |value| {
        let device = Qaic::new(parameters(value)?);
        Ok(Box::new(device.map_err(|error| CatalogError::Refused(error.into()))?))
    },
};

fn defaults<P: Default + Serialize>() -> Value {
    serde_json::to_value(P::default()).unwrap_or(Value::Null)
}

fn schema<P: JsonSchema>() -> Schema {
    schemars::schema_for!(P)
}

fn parameters<P: Default + DeserializeOwned>(value: Value) -> Result<P, CatalogError> {
    if value.is_null() { Ok(P::default()) } else { Ok(serde_json::from_value(value)?) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_device_is_what_its_entry_says() {
        for device in DEVICES {
            let model = device.build(Value::Null).unwrap();
            let identity = model.identity();
            assert_eq!(identity.validate(), Ok(()));
            assert_eq!(
                (identity.name, identity.vendor_id, identity.device_id),
                (device.name, device.vendor_id, device.device_id)
            );
            assert_eq!(find(device.name).unwrap().summary, device.summary);
        }
    }

    #[test]
    fn default_parameters_build_and_are_all_in_the_schema() {
        for device in DEVICES {
            let defaults = device.default_parameters();
            assert!(device.build(defaults.clone()).is_ok());
            let schema = device.parameter_schema();
            let properties = schema.get("properties").and_then(Value::as_object).unwrap();
            let names: Vec<_> = defaults.as_object().unwrap().keys().collect();
            assert_eq!(names, properties.keys().collect::<Vec<_>>());
        }
    }

    #[test]
    fn wrong_names_and_parameters_are_refused() {
        assert!(matches!(find("toaster"), Err(CatalogError::UnknownDevice(_))));
        let crypto = find("virtio-crypto").unwrap();
        let refused = |value| crypto.build(value).err().unwrap().to_string();
        assert!(refused(json!({ "sessions": 1 })).contains("unknown field"));
        assert_eq!(
            refused(json!({ "data_queues": 0 })),
            "parameters: data_queues is 0, which is not 1 to 64"
        );
        assert_eq!(
            refused(json!({ "queue_size": 1000 })),
            "parameters: queue_size is 1000, which is not a power of two from 2 to 32768"
        );
    }
}
