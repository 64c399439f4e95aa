import { redirect } from "next/navigation";

export function GET(request) {
  // request.url begins with http://localhost:PORT, whatever was asked for.
  const base = "PLAIN" in process.env ? request.url : process.env.ADIT_URL;
  if (new URL(request.url).searchParams.has("absolute")) return Response.redirect(new URL("/form", base));
  redirect("/form");
}
