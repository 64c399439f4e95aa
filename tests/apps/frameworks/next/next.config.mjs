export default "PLAIN" in process.env ? {} : { allowedDevOrigins: [process.env.ADIT_HOST ?? ""] };
