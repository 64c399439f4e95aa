import java.io.ByteArrayInputStream;
import java.io.FileInputStream;
import java.net.Socket;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/** Echo AUTHORITY ADDRESS PORT HOST SUITE...: half a megabyte there and back with each suite, to its clean end. */
class Echo {
  public static void main(String[] words) throws Exception {
    KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
    trusted.load(null, null);
    try (FileInputStream in = new FileInputStream(words[0])) {
      trusted.setCertificateEntry("relay", CertificateFactory.getInstance("X.509").generateCertificate(in));
    }
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(trusted);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    for (String suite : Arrays.copyOfRange(words, 4, words.length)) {
      Socket plain = new Socket(words[1], Integer.parseInt(words[2]));
      SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(plain, words[3], Integer.parseInt(words[2]), true);
      SSLParameters parameters = socket.getSSLParameters();
      parameters.setEndpointIdentificationAlgorithm("HTTPS");
      parameters.setCipherSuites(new String[] {suite});
      socket.setSSLParameters(parameters);
      byte[] said = new byte[1 << 19];
      for (int i = 0; i < said.length; i++) said[i] = (byte) (i * 7 + i / 251);
      Thread writer = new Thread(() -> {
        try {
          socket.getOutputStream().write(said);
          socket.shutdownOutput();
        } catch (Exception e) {
          e.printStackTrace();
        }
      });
      writer.start();
      byte[] heard = socket.getInputStream().readAllBytes();
      writer.join();
      System.out.println(socket.getSession().getProtocol() + " " + socket.getSession().getCipherSuite() + " " + Arrays.equals(said, heard));
      socket.close();
    }
  }
}
