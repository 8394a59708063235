//! The documents' test data, where it is whole bytes.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

const UEA2_KEY: &str = "2bd6459f82c5b300952c49104881ff48";
const PLAIN: &str = "7ec61272743bf1614726446a6c38ced166f6ca76eb5430044286346cef130f92922b03450d3a9975e5bd2ea0\
    eb55ad8e1b199e3ec4316020e9a1b285e762795359b7bdfd39bef4b2484583d5afe082aee638bf5fd5a606193901a08f4ab41aab9b134880";

fn ciphers(cipher: Cipher, key: &[u8], iv: &str, plain: &str, coded: &str, bits: usize) {
    let mut data = hex(plain);
    cipher.apply(key, &hex(iv), &mut data).unwrap();
    // What follows the last bit is not in the documents.
    let expected = hex(coded);
    let whole = bits / 8;
    assert_eq!(data[..whole], expected[..whole]);
    let mask = !(0xff_u16 >> (bits % 8)).to_le_bytes()[0];
    assert_eq!(
        data.get(whole).map(|byte| byte & mask),
        expected.get(whole).map(|byte| byte & mask)
    );
    cipher.apply(key, &hex(iv), &mut data).unwrap();
    assert_eq!(data, hex(plain));
}

/// A key, and the key with its modifier in every byte.
fn pair(key: &str, modifier: u8) -> Vec<u8> {
    let key = hex(key);
    let modified: Vec<u8> = key.iter().map(|byte| byte ^ modifier).collect();
    [key, modified].concat()
}

#[test]
fn uea2() {
    let coded = "8ceba62943dced3a0990b06ea1b0a2c4fb3cedc71b369f42ba64c1eb6665e72aa1c9bb0deaa20fe86058b8ba\
        ee2c2e7f0becce48b52932a53c9d5f931a3a7c532259af4325e2a65e3084ad5f6a513b7bddc1b65f0aa0d97a053db55a88c4c4f9605e4140";
    let iv = "72a4f20f6400000072a4f20f64000000";
    ciphers(Cipher::Snow3g, &hex(UEA2_KEY), iv, PLAIN, coded, 798);
}

#[test]
fn uia2() {
    let data = hex(
        "d0a7d463df9fb2b278833fa02e235aa172bd970c1473e12907fb648b6599aaa0b24a038665422b20a499276a50427009",
    );
    let (key, iv) = ("c736c6aab22bfff91e2698d2e22ad57e", "14793e410397e8fd94793e41039768fd");
    let mac = Mac::Snow3g.compute(&hex(key), &hex(iv), &data);
    assert_eq!(mac.unwrap().to_vec(), hex("38b554c0"));
}

#[test]
fn eea3() {
    let key = "173d14ba5003731d7a60049470f00a29";
    let iv = "66035492780000006603549278000000";
    let plain = "6cf65340735552ab0c9752fa6f9025fe0bd675d9005875b200";
    let coded = "a6c85fc66afb8533aafc2518dfe784940ee1e4b030238cc800";
    ciphers(Cipher::Zuc, &hex(key), iv, plain, coded, 193);
}

#[test]
fn eia3() {
    let mac = |key: &str, iv: &str, data: &[u8]| {
        hex::encode(Mac::Zuc.compute(&hex(key), &hex(iv), data).unwrap())
    };
    let zeros = "00000000000000000000000000000000";
    assert_eq!(mac(zeros, zeros, &[0]), "390a91b7");
    let data = hex(
        "983b41d47d780c9e1ad11d7eb70391b1de0b35da2dc62f83e7b78d6306ca0ea07e941b7be91348f9fcb170e2\
        217fecd97f9f68adb16e5d7d21e569d280ed775cebde3f4093c5388100",
    );
    let key = "c9e6cec4607c72db000aefa88385ab0a";
    assert_eq!(mac(key, "a94059da50000000294059da50008000", &data), "24a842b3");
}

#[test]
fn f8() {
    let coded = "d1e2de70eef86c6964fb542bc2d460aabfaa10a4a093262b7d199e706fc2d4891553296910f3a973012682e4\
        1c4e2b02be2017b7253bbf9309de5819cb42e81956f4c99bc9765caf53b1d0bb8279826adbbc5522e915c120a618a5a7f5e897089339650f";
    ciphers(Cipher::Kasumi, &pair(UEA2_KEY, 0x55), "72a4f20f64000000", PLAIN, coded, 798);
}

#[test]
fn f9() {
    for (key, data, expected) in [
        (UEA2_KEY, "38a6f05605d2ec496b227737296f393c8079353edc87e2e805d2ec49a4f2d8e2", "f63bd72c"),
        (
            "d42f682428201cafcd9f97945e6de7b7",
            "3edc87e2a4f2d8e2b5924384328a4ae00b737109f8b6c8dd2b4db63dd533981ceb19aad52a5b2bc3",
            "a9daf1ff",
        ),
    ] {
        let mac = Mac::Kasumi.compute(&pair(key, 0xaa), &[], &hex(data));
        assert_eq!(mac.unwrap().to_vec(), hex(expected));
    }
}

#[test]
fn lengths_are_checked() {
    let mut data = [0; 4];
    for cipher in [Cipher::Snow3g, Cipher::Zuc, Cipher::Kasumi] {
        let (key, iv) = (vec![0; cipher.key_len()], vec![0; cipher.iv_len()]);
        assert_eq!(cipher.apply(&key, &iv, &mut data), Ok(()));
        assert_eq!(cipher.apply(&key[1..], &iv, &mut data), Err(short(&key)));
        let error = Error::InvalidIvLength(iv.len() - 1);
        assert_eq!(cipher.apply(&key, &iv[1..], &mut data), Err(error));
    }
    for mac in [Mac::Snow3g, Mac::Zuc, Mac::Kasumi] {
        let (key, iv) = (vec![0; mac.key_len()], vec![0; mac.iv_len()]);
        assert!(mac.compute(&key, &iv, &[0; 8]).is_ok());
        assert_eq!(mac.compute(&key[1..], &iv, &[0; 8]), Err(short(&key)));
        let other = [0; 3];
        assert_eq!(mac.compute(&key, &other, &[0; 8]), Err(Error::InvalidIvLength(3)));
    }
    let (short, padded) = ([5; 9], [[5; 9].as_slice(), &[0; 7]].concat());
    let mac = |data: &[u8]| Mac::Kasumi.compute(&[3; 32], &[], data);
    assert_eq!(mac(&short), mac(&padded));
    assert_ne!(mac(&short), mac(&[5; 8]));
}

/// The error of a key that lacks its first byte: KASUMI's are two of 16 bytes.
fn short(key: &[u8]) -> Error {
    Error::InvalidKeyLength(if key.len() == 32 { 15 } else { key.len() - 1 })
}
