/* The cryptography against the vectors of the RFCs, and what each call must refuse. */
#include "cm.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "crypto/crypto.h"

/* Decodes hex into a buffer of the test; the length comes back. */
static size_t unhex(const char *hex, uint8_t *out) {
  size_t n = strlen(hex) / 2;
  assert_int_equal(hex_decode(hex, out, n), 0);
  return n;
}

static void assert_hex(const uint8_t *got, size_t n, const char *hex) {
  char text[1024];
  assert_true(2 * n < sizeof text);
  hex_encode(got, n, text);
  assert_string_equal(text, hex);
}

static void sha256_of_abc(void **state) {
  (void)state;
  uint8_t out[32];
  assert_int_equal(sha256("abc", 3, out), 0);
  assert_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void hmac_sha256_rfc_4231(void **state) {
  (void)state;
  uint8_t out[32], key[131];
  assert_int_equal(hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, out), 0);
  assert_hex(out, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  memset(key, 0xaa, sizeof key);
  assert_int_equal(hmac_sha256(key, sizeof key, "Test Using Larger Than Block-Size Key - Hash Key First", 54, out), 0);
  assert_hex(out, 32, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void hkdf_rfc_5869_extract(void **state) {
  (void)state;
  uint8_t ikm[22], salt[13], out[48];
  memset(ikm, 0x0b, sizeof ikm);
  unhex("000102030405060708090a0b0c", salt);
  assert_int_equal(hkdf_extract(HASH_SHA256, salt, sizeof salt, ikm, sizeof ikm, out), 0);
  assert_hex(out, 32, "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
  assert_int_equal(hkdf_extract(HASH_SHA256, NULL, 0, ikm, sizeof ikm, out), 0); /* test case 3 */
  assert_hex(out, 32, "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04");
}

static void hkdf_rfc_5869_expand_without_info(void **state) {
  (void)state;
  uint8_t prk[32], out[42];
  unhex("19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04", prk);
  assert_int_equal(hkdf_expand(prk, "", out, sizeof out), 0);
  assert_hex(out, 42, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

static void hkdf_expand_refuses_more_than_255_blocks(void **state) {
  (void)state;
  uint8_t prk[32] = {0}, *out = malloc(255 * 32 + 1);
  assert_non_null(out);
  assert_int_equal(hkdf_expand(prk, "x", out, 255 * 32), 0);
  assert_int_equal(hkdf_expand(prk, "x", out, 255 * 32 + 1), ERR_LIMIT);
  free(out);
}

/* RFC 8448 section 3: "derive secret for handshake tls13 derived" from the early secret, and keys from a traffic
   secret. */
static void expand_label_rfc_8448(void **state) {
  (void)state;
  uint8_t zero[32] = {0}, early[32], empty[32], out[32];
  assert_int_equal(hkdf_extract(HASH_SHA256, NULL, 0, zero, sizeof zero, early), 0);
  assert_hex(early, 32, "33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a");
  assert_int_equal(sha256("", 0, empty), 0);
  assert_int_equal(hkdf_expand_label(HASH_SHA256, early, "derived", empty, 32, out, 32), 0);
  assert_hex(out, 32, "6f2615a108c702c5678f54fc9dbab69716c076189c48250cebeac3576c3611ba");
  uint8_t secret[32];
  unhex("b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21", secret); /* client hs traffic */
  assert_int_equal(hkdf_expand_label(HASH_SHA256, secret, "key", NULL, 0, out, 16), 0);
  assert_hex(out, 16, "dbfaa693d1762c5b666af5d950258d01");
  assert_int_equal(hkdf_expand_label(HASH_SHA256, secret, "iv", NULL, 0, out, 12), 0);
  assert_hex(out, 12, "5bd3c71b836e0b76bb73265f");
}

static void expand_label_refuses_too_long_a_label_or_context(void **state) {
  (void)state;
  uint8_t secret[32] = {0}, out[32], context[256] = {0};
  char label[256];
  memset(label, 'a', sizeof label - 1);
  label[255] = 0;
  assert_int_equal(hkdf_expand_label(HASH_SHA256, secret, label, NULL, 0, out, 32), ERR_LIMIT);
  assert_int_equal(hkdf_expand_label(HASH_SHA256, secret, "x", context, 256, out, 32), ERR_LIMIT);
}

/* RFC 7748 section 6.1 */
static void x25519_rfc_7748(void **state) {
  (void)state;
  uint8_t b[32], a_public[32], out[32];
  unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb", b);
  unhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a", a_public);
  assert_int_equal(x25519_shared(b, a_public, out), 0);
  assert_hex(out, 32, "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
}

static void x25519_both_sides_agree(void **state) {
  (void)state;
  uint8_t a[32], a_public[32], b[32], b_public[32], ab[32], ba[32];
  assert_int_equal(x25519_keypair(a, a_public), 0);
  assert_int_equal(x25519_keypair(b, b_public), 0);
  assert_int_equal(x25519_shared(a, b_public, ab), 0);
  assert_int_equal(x25519_shared(b, a_public, ba), 0);
  assert_memory_equal(ab, ba, 32);
  assert_memory_not_equal(a, b, 32);
}

static void x25519_refuses_a_point_of_small_order(void **state) {
  (void)state;
  uint8_t a[32], a_public[32], zero[32] = {0}, one[32] = {1}, out[32];
  assert_int_equal(x25519_keypair(a, a_public), 0);
  assert_int_equal(x25519_shared(a, zero, out), ERR_CRYPTO);
  assert_int_equal(x25519_shared(a, one, out), ERR_CRYPTO);
  assert_memory_equal(out, zero, 32);
}

/* RFC 8032 section 7.1, tests 1 and 2 */
static void ed25519_rfc_8032(void **state) {
  (void)state;
  uint8_t seed[32], public_key[32], sig[64];
  unhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", seed);
  assert_int_equal(ed25519_public(seed, public_key), 0);
  assert_hex(public_key, 32, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  assert_int_equal(ed25519_sign(seed, "", 0, sig), 0);
  assert_hex(sig, 64, "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
                      "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
  assert_int_equal(ed25519_verify(public_key, "", 0, sig), 0);

  unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", seed);
  assert_int_equal(ed25519_public(seed, public_key), 0);
  assert_int_equal(ed25519_sign(seed, "\x72", 1, sig), 0);
  assert_hex(sig, 64, "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                      "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
}

static void ed25519_refuses_any_change(void **state) {
  (void)state;
  uint8_t seed[32], public_key[32], other_seed[32], other_key[32], sig[64];
  assert_int_equal(ed25519_keypair(seed, public_key), 0);
  assert_int_equal(ed25519_keypair(other_seed, other_key), 0);
  assert_int_equal(ed25519_sign(seed, "message", 7, sig), 0);
  assert_int_equal(ed25519_verify(public_key, "message", 7, sig), 0);
  assert_int_equal(ed25519_verify(public_key, "massage", 7, sig), ERR_AUTH);
  assert_int_equal(ed25519_verify(public_key, "message", 6, sig), ERR_AUTH);
  assert_int_equal(ed25519_verify(other_key, "message", 7, sig), ERR_AUTH);
  for (size_t i = 0; i < sizeof sig; i++) {
    sig[i] ^= 1;
    assert_int_equal(ed25519_verify(public_key, "message", 7, sig), ERR_AUTH);
    sig[i] ^= 1;
  }
}

struct vector { enum aead_alg alg; const char *key, *nonce, *ad, *plain, *cipher, *tag; };

static const struct vector vectors[] = {
    /* McGrew and Viega, test cases 4 and 16 */
    {AEAD_AES_128_GCM, "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
     "b16aedf5aa0de657ba637b39",
     "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa05"
     "1ba30b396a0aac973d58e091",
     "5bc94fbc3221a5db94fae95ae7121a47"},
    {AEAD_AES_256_GCM, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
     "b16aedf5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838"
     "c5f61e6393ba7a0abcc9f662",
     "76fc6ece0f4e1768cddf8853bb2d551b"},
    /* RFC 8439 section 2.8.2 */
    {AEAD_CHACHA20_POLY1305, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
    "070000004041424344454647",
     "50515253c0c1c2c3c4c5c6c7",
     "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a20496620492063"
     "6f756c64206f6666657220796f75"
     "206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73637265656e20776f756c642062652069742e",
     "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b"
     "1a71de0a9e060b2905d6a5b67ecd"
     "3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116",
     "1ae10b594f09e26a7e902ecbd0600691"}};

static void aead_matches_the_vectors_again_and_again(void **state) {
  (void)state;
  for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
    const struct vector *v = &vectors[i];
    uint8_t key[32], nonce[12], ad[32], plain[128], out[128], tag[16];
    assert_int_equal(unhex(v->key, key), aead_key_bytes(v->alg));
    unhex(v->nonce, nonce);
    size_t ad_n = unhex(v->ad, ad), n = unhex(v->plain, plain);
    struct aead *seal = aead_new(v->alg, key, true), *open = aead_new(v->alg, key, false);
    assert_non_null(seal);
    assert_non_null(open);
    for (int round = 0; round < 3; round++) {
      assert_int_equal(aead_seal(seal, nonce, ad, ad_n, plain, n, out, tag), 0);
      assert_hex(out, n, v->cipher);
      assert_hex(tag, 16, v->tag);
      assert_int_equal(aead_open(open, nonce, ad, ad_n, out, n, out, tag), 0);
      assert_memory_equal(out, plain, n);
    }
    aead_free(seal);
    aead_free(open);
  }
}

static void aead_open_refuses_any_change_and_leaves_nothing(void **state) {
  (void)state;
  static const uint8_t key[32], nonce[12] = {1}, other[12] = {2}, zero[32];
  for (int alg = AEAD_AES_128_GCM; alg <= AEAD_CHACHA20_POLY1305; alg++) {
    uint8_t box[32], tag[16], out[32];
    struct aead *seal = aead_new((enum aead_alg)alg, key, true), *open = aead_new((enum aead_alg)alg, key, false);
    assert_int_equal(aead_seal(seal, nonce, "ad", 2, (const uint8_t *)"0123456789abcdef0123456789abcdef", 32, box, tag),
                     0);
    assert_int_equal(aead_open(open, other, "ad", 2, box, 32, out, tag), ERR_AUTH);
    assert_int_equal(aead_open(open, nonce, "aD", 2, box, 32, out, tag), ERR_AUTH);
    assert_int_equal(aead_open(open, nonce, "ad", 2, box, 31, out, tag), ERR_AUTH);
    tag[15] ^= 1;
    assert_int_equal(aead_open(open, nonce, "ad", 2, box, 32, out, tag), ERR_AUTH);
    assert_memory_equal(out, zero, 32);
    tag[15] ^= 1;
    box[0] ^= 1;
    assert_int_equal(aead_open(open, nonce, "ad", 2, box, 32, out, tag), ERR_AUTH);
    box[0] ^= 1;
    assert_int_equal(aead_open(open, nonce, "ad", 2, box, 32, out, tag), 0); /* a failure does not spoil the context */
    aead_free(seal);
    aead_free(open);
  }
}

static void aead_seals_nothing_but_additional_data(void **state) {
  (void)state;
  static const uint8_t key[32], nonce[12];
  uint8_t tag[16], none[1];
  struct aead *seal = aead_new(AEAD_AES_128_GCM, key, true), *open = aead_new(AEAD_AES_128_GCM, key, false);
  assert_int_equal(aead_seal(seal, nonce, "x", 1, NULL, 0, none, tag), 0);
  assert_int_equal(aead_open(open, nonce, "x", 1, NULL, 0, none, tag), 0);
  assert_int_equal(aead_open(open, nonce, "y", 1, NULL, 0, none, tag), ERR_AUTH);
  aead_free(seal);
  aead_free(open);
}

static void random_bytes_differ(void **state) {
  (void)state;
  uint8_t a[32], b[32];
  assert_int_equal(random_bytes(a, sizeof a), 0);
  assert_int_equal(random_bytes(b, sizeof b), 0);
  assert_memory_not_equal(a, b, sizeof a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sha256_of_abc),
      cmocka_unit_test(hmac_sha256_rfc_4231),
      cmocka_unit_test(hkdf_rfc_5869_extract),
      cmocka_unit_test(hkdf_rfc_5869_expand_without_info),
      cmocka_unit_test(hkdf_expand_refuses_more_than_255_blocks),
      cmocka_unit_test(expand_label_rfc_8448),
      cmocka_unit_test(expand_label_refuses_too_long_a_label_or_context),
      cmocka_unit_test(x25519_rfc_7748),
      cmocka_unit_test(x25519_both_sides_agree),
      cmocka_unit_test(x25519_refuses_a_point_of_small_order),
      cmocka_unit_test(ed25519_rfc_8032),
      cmocka_unit_test(ed25519_refuses_any_change),
      cmocka_unit_test(aead_matches_the_vectors_again_and_again),
      cmocka_unit_test(aead_open_refuses_any_change_and_leaves_nothing),
      cmocka_unit_test(aead_seals_nothing_but_additional_data),
      cmocka_unit_test(random_bytes_differ)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
