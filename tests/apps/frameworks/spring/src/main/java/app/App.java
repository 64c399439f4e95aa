package app;

import jakarta.servlet.http.HttpServletRequest;
import java.security.Principal;
import java.util.Map;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.autoconfigure.condition.ConditionalOnExpression;
import org.springframework.boot.web.embedded.tomcat.TomcatServletWebServerFactory;
import org.springframework.boot.web.server.WebServerFactoryCustomizer;
import org.springframework.context.annotation.Bean;
import org.springframework.security.config.Customizer;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.core.userdetails.User;
import org.springframework.security.core.userdetails.UserDetailsService;
import org.springframework.security.provisioning.InMemoryUserDetailsManager;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.servlet.support.ServletUriComponentsBuilder;
import org.springframework.web.servlet.view.RedirectView;

@SpringBootApplication
@RestController
public class App {
  public static void main(String[] words) {
    SpringApplication.run(App.class, words);
  }

  @Bean
  @ConditionalOnExpression("systemEnvironment['PLAIN'] == null")
  WebServerFactoryCustomizer<TomcatServletWebServerFactory> fromTunnel() {
    return factory -> factory.addConnectorCustomizers(connector -> {
      connector.setScheme("https");
      connector.setSecure(true);
    });
  }

  @Bean
  SecurityFilterChain rules(HttpSecurity http) throws Exception {
    return http
        .authorizeHttpRequests(of -> of.requestMatchers("/private").authenticated().anyRequest().permitAll())
        .formLogin(Customizer.withDefaults())
        .build();
  }

  @Bean
  UserDetailsService users() {
    return new InMemoryUserDetailsManager(User.withUsername("alice").password("{noop}sesame").roles("USER").build());
  }

  @GetMapping("/where")
  Map<String, Object> where(HttpServletRequest request) {
    String url = ServletUriComponentsBuilder.fromCurrentRequest().toUriString();
    return Map.of("url", url, "secure", request.isSecure(), "visitor", request.getRemoteAddr());
  }

  @GetMapping("/old")
  RedirectView old() {
    return new RedirectView("/where");
  }

  @GetMapping(value = "/private", produces = "text/html")
  String secret(Principal who) {
    return "<p>" + who.getName() + "</p>";
  }
}
