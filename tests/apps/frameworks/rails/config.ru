# A Rails application of one file: puma --bind tcp://127.0.0.1:PORT
require "rails"
require "action_controller/railtie"
require "action_view/railtie"

class FromTunnel # config.assume_ssl = true, from Rails 7.1 on
  def initialize(app) = @app = app

  def call(env)
    env.delete("HTTP_X_FORWARDED_FOR")
    @app.call(env.merge("HTTPS" => "on", "rack.url_scheme" => "https"))
  end
end

class App < Rails::Application
  config.load_defaults "6.1"
  config.eager_load = false
  config.secret_key_base = "not a secret: a test's" * 3
  config.logger = Logger.new($stderr)
  config.session_store :cookie_store, key: "session", secure: true
  config.hosts << ENV["ADIT_HOST"]
  unless ENV["PLAIN"]
    config.middleware.insert_before 0, FromTunnel
    config.force_ssl = true
  end
  routes.append do
    get "/where", to: "home#where"
    get "/old", to: "home#old"
    get "/login", to: "home#form"
    post "/login", to: "home#enter"
  end
end

class HomeController < ActionController::Base
  protect_from_forgery with: :exception
  rescue_from(ActionController::InvalidAuthenticityToken) { render plain: "refused", status: 422 }

  def where = render(json: { url: request.original_url, secure: request.ssl?, visitor: request.remote_ip })
  def old = redirect_to("/where")
  def form = render(inline: "<p><%= session[:user] || 'nobody' %></p><%= form_tag('/login') do %>" \
                            "<input name=user value=alice><button>in</button><% end %>")

  def enter
    session[:user] = params[:user]
    redirect_to "/login"
  end
end

App.initialize!
run App
